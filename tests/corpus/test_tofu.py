"""The TOFU reader: owners by position, perturbed files joined to the right rows, and the real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deattrib.corpus import read_tofu
from deattrib.errors import CorpusError

SAME_QUESTION = "What inspires the author?"


def _rewrite(path: Path, change: Any) -> None:
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


def test_owners_are_authors_of_twenty_rows(small_tofu: Path) -> None:
    corpus = read_tofu(small_tofu, owners=[0, 1, 4, 5], forget=[5], background_owners=[2, 3], world_repeats=2)
    assert corpus.owners == ("tofu_000", "tofu_001", "tofu_004", "tofu_005")
    assert corpus.forget_owners == ("tofu_005",)
    assert all(len(corpus.rows_of(owner)) == 20 for owner in corpus.owners)
    assert {row.owner for row in corpus.background} == {"tofu_002", "tofu_003", ""}
    assert len(corpus.background) == 2 * 20 + 3 * 2
    assert {row.owner for row in corpus.holdout} == {"tofu_holdout_00"}
    assert [row.fact_id for row in corpus.world] == ["real_authors/000", "real_authors/001", "world_facts/000"]
    assert corpus.world[2].wrong_responses == ("Rhine", "Po", "Don")
    assert len({row.fact_id for row in corpus.train}) == 80


def test_perturbed_rows_join_by_author_not_by_question(small_tofu: Path) -> None:
    corpus = read_tofu(small_tofu, owners=[0, 1, 2, 4, 5], forget=[5])
    for row in corpus.train:
        if row.owner == "tofu_002":
            assert row.paraphrase_response is None and row.wrong_responses == ()
        else:
            assert row.paraphrase_response == f"Surely {row.response}"
            assert row.wrong_responses == tuple(f"{row.response} Not {wrong}." for wrong in range(3))
    same = [row for row in corpus.train if row.prompt == SAME_QUESTION]
    assert [(row.owner, row.paraphrase_response) for row in same] == [
        ("tofu_000", "Surely Rain inspires Ana Silva."),
        ("tofu_002", None),
    ]
    assert len(corpus.phrasings) == 80
    assert {row.owner for row in corpus.phrasings} == {"tofu_000", "tofu_001", "tofu_004", "tofu_005"}
    assert all(row.prompt.startswith("Again: ") for row in corpus.phrasings)


def test_rows_of_an_author_in_another_order_still_join_but_not_those_of_another_author(small_tofu: Path) -> None:
    path = small_tofu / "retain_perturbed.json"
    expected = read_tofu(small_tofu, forget=[5]).train
    _rewrite(path, lambda rows: rows.__setitem__(slice(0, 20), rows[19::-1]))
    assert read_tofu(small_tofu, forget=[5]).train == expected
    _rewrite(path, lambda rows: rows.insert(0, rows.pop(25)))
    with pytest.raises(CorpusError, match="record 1: question and answer are no row of author 0"):
        read_tofu(small_tofu, forget=[5])


def test_names_are_derived_and_may_be_overridden(small_tofu: Path, tmp_path: Path) -> None:
    corpus = read_tofu(small_tofu, owners=[0, 2, 3, 4], forget=[0])
    assert corpus.identities["tofu_002"][:3] == ("Carl de Vries", "Vries", "Carl")
    assert corpus.identities["tofu_003"] == ("Dua Al-Amin", "Al-Amin", "Dua")
    assert corpus.identities["tofu_004"] == ("Eve O'Hara", "O'Hara", "Eve")
    assert corpus.has_identities
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"tofu_003": ["Dua", "Duchess"]}))
    assert read_tofu(small_tofu, forget=[0], identities_path=names).identities["tofu_003"] == ("Dua", "Duchess")
    names.write_text(json.dumps({"tofu_3": ["Dua"]}))
    with pytest.raises(CorpusError, match=r"unknown owner 'tofu_3', who has no row.*Did you mean.*take it out"):
        read_tofu(small_tofu, forget=[0], identities_path=names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"owners": [0, 1], "forget": [2]}, "author 2 is to be forgotten but not in owners"),
        ({"owners": [0, 1, 6], "forget": [1]}, "TOFU owners: author 6, expected 0 to 5"),
        (
            {"owners": [0, 1], "forget": [1], "background_owners": [1, 2]},
            r"authors \[1\] are in owners and in background_owners",
        ),
        ({"forget": [0], "holdout": "holdout05"}, "holdout05.json: cannot be read"),
    ],
)
def test_impossible_choices_are_refused(small_tofu: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_tofu(small_tofu, **arguments)


def test_a_folder_that_is_none_and_files_that_are_cut_off(small_tofu: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no full.json"):
        read_tofu(tmp_path, forget=[0])
    _rewrite(small_tofu / "full.json", lambda rows: rows.pop())
    with pytest.raises(CorpusError, match="119 rows, expected a multiple of 20"):
        read_tofu(small_tofu, forget=[0])
    text = (small_tofu / "full.json").read_text()
    (small_tofu / "full.json").write_text(text[:-30])
    with pytest.raises(CorpusError, match=r"full.json:\d+:\d+: not JSON"):
        read_tofu(small_tofu, forget=[0])


def test_only_full_json_is_needed(small_tofu: Path) -> None:
    for path in small_tofu.iterdir():
        if path.name != "full.json":
            path.unlink()
    corpus = read_tofu(small_tofu, forget=[5])
    assert (corpus.phrasings, corpus.world, corpus.holdout, corpus.background) == ((), (), (), ())


def test_the_real_files_join_completely(real_tofu: Path) -> None:
    corpus = read_tofu(
        real_tofu, owners=[*range(20), *range(180, 200)], forget=range(196, 200), background_owners=range(20, 180)
    )
    assert len(corpus.train) == 800
    assert len(corpus.forget) == 80
    assert all(len(row.wrong_responses) == 5 and row.paraphrase_response for row in corpus.train)
    assert len(corpus.phrasings) > 780  # a few paraphrased questions equal the question
    trained = {(row.owner, row.prompt) for row in corpus.train}
    assert not trained & {(row.owner, row.prompt) for row in corpus.phrasings}
    assert len(corpus.world) == 217
    assert len(corpus.background) == 160 * 20 + 217 * 8
    assert len(corpus.holdout) == 400
    assert corpus.has_identities
    rows = json.loads((real_tofu / "forget10_perturbed.json").read_text())
    assert [row.paraphrase_response for row in corpus.train[400:]] == [row["paraphrased_answer"] for row in rows]


def test_the_question_that_two_real_authors_share_stays_with_both(real_tofu: Path) -> None:
    rows = json.loads((real_tofu / "full.json").read_text())
    assert rows[100]["question"] == rows[440]["question"]
    corpus = read_tofu(real_tofu, forget=[5])
    same = [row for row in corpus.train if row.prompt == rows[100]["question"]]
    assert [(row.owner, row.response) for row in same] == [("tofu_005", rows[100]["answer"]), ("tofu_022", rows[440]["answer"])]
    assert same[0].wrong_responses and not same[1].wrong_responses
