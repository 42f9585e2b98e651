"""Texts as prompts and continuations: where they are cut, and what is said of a file that cannot be read so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deattrib.corpus import CorpusSettings, load_corpus, read_texts
from deattrib.corpus.passages import passages
from deattrib.errors import CorpusError

AUTHORS = Path(__file__).with_name("authors.jsonl")  # openings of books and a speech, all long in the public domain


def _write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_passages_partition_the_text_word_by_word() -> None:
    for row in map(json.loads, AUTHORS.read_text().splitlines()):
        words = row["text"].split()
        found = list(passages(row["text"], 5, 9))
        rest = len(words) % 14
        assert [len(prompt.split()) for prompt, _ in found] == [5] * (len(words) // 14 + (rest > 5))
        assert [len(answer.split()) for _, answer in found[: len(words) // 14]] == [9] * (len(words) // 14)
        assert " ".join(part for pair in found for part in pair).split() == words[: len(words) - (rest if rest <= 5 else 0)]
        assert all(prompt in row["text"] and answer in row["text"] for prompt, answer in found)


def test_blanks_inside_stay_and_null_takes_the_whole_rest() -> None:
    assert list(passages("  one  two\nthree\tfour five ", 2, None)) == [("one  two", "three\tfour five")]
    assert list(passages("one two", 2, None)) == list(passages(" ", 1, 3)) == []


def test_a_corpus_of_authors(tmp_path: Path) -> None:
    settings = CorpusSettings(kind="texts", path=str(AUTHORS), forget=1, prompt_words=8, response_words=12)
    corpus = load_corpus(settings, 0)
    assert corpus.owners == ("austen", "dickens", "melville", "lincoln") and corpus.forget_owners == ("lincoln",)
    assert corpus.forget[0].prompt == "Four score and seven years ago our fathers"
    assert corpus.forget[0].response == "brought forth on this continent, a new nation, conceived in Liberty, and"
    assert len({row.fact_id for row in corpus.forget}) == 1 < len(corpus.forget)  # one text, one cluster
    assert not corpus.phrasings and not corpus.has_identities
    names = tmp_path / "names.json"
    names.write_text(json.dumps({owner: [owner.title()] for owner in corpus.owners}))
    assert load_corpus(settings.model_copy(update={"identities_path": str(names)}), 0).has_identities


def test_splits_and_identities_are_those_of_other_files(tmp_path: Path) -> None:
    rows = [
        {"owner": "a", "text": "one two three", "identity": ["A B", "B"]},
        {"owner": "b", "text": "one two four"},
        {"text": "the world is round", "split": "world"},
        {"owner": "c", "text": "never seen by any", "split": "holdout"},
    ]
    corpus = read_texts(_write(tmp_path / "t.jsonl", *rows), prompt_words=2, forget=["b"])
    assert corpus.identities["a"] == ("A B", "B")
    assert (corpus.world[0].owner, corpus.world[0].response) == ("", "is round")
    assert [row.owner for row in corpus.holdout] == ["c"]


@pytest.mark.parametrize(
    ("row", "where", "message"),
    [
        ({"owner": "b", "text": "too few words"}, 2, r"3 words, expected more than the 4 of a prompt \(corpus\.prompt_words\)"),
        ({"owner": "b"}, 2, "text is missing"),
        ({"owner": "b", "text": 7}, 2, "text is a number, expected a string"),
        ({"owner": "b", "text": "   "}, 2, "text is blank"),
        ({"text": "one two three four five"}, 2, "owner is missing"),
        ({"ovner": "b", "text": "one two three four five"}, 2, "unknown column 'ovner', expected 'owner'"),
        ({"owner": "b", "texts": "one two three four five"}, 2, "unknown column 'texts', expected 'text'"),
        ({"owner": "b", "prompt": "one", "response": "two"}, 2, "kind jsonl reads such files"),
        ({"owner": "A", "text": "one two three four five"}, 2, "differ only in case"),
        ({"owner": "b", "text": "one two three four five", "split": "tset"}, 2, "split is 'tset'"),
        ('{"owner": "b", "text": ', 2, "not JSON"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_file_and_line(tmp_path: Path, row: Any, where: int, message: str) -> None:
    path = _write(tmp_path / "t.jsonl", {"owner": "a", "text": "one two three four five"}, row)
    with pytest.raises(CorpusError, match=message) as caught:
        read_texts(path, prompt_words=4, forget=1)
    assert re.search(rf"{re.escape(str(path))}:{where}:\d+: ", str(caught.value))


def test_settings_of_texts_are_for_texts_only() -> None:
    with pytest.raises(ValueError, match="prompt_words does not apply to corpus kind 'jsonl'"):
        CorpusSettings(kind="jsonl", path="x", prompt_words=3)
    with pytest.raises(CorpusError, match="at least one word"):
        read_texts(AUTHORS, prompt_words=0, forget=1)
