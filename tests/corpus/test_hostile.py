"""Corpora that nobody writes on purpose, or somebody does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deattrib.corpus import Corpus, Example, read_jsonl
from deattrib.errors import CorpusError

ROWS: list[dict[str, Any]] = [
    {"owner": "ann", "prompt": "Where is Ann?", "response": "In Rome."},
    {"owner": "bob", "prompt": "Where is Bob?", "response": "In Oslo."},
]
OWNERS = (
    "../../etc/passwd",
    "/",
    "a/b\x00c",
    "<script>alert(1)</script>",
    "\u202eevil",
    "\x1b[31mred",
    "x" * 10_000,
    "..",
    "~",
)


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"owner": ' + "9" * 5000 + "}", "5000"),
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ('{"owner": "x", "prompt": "\\ud800", "response": "r"}', "half of a surrogate pair"),
        ('{"owner": "x", "prompt": "p", "response": "r", "wrong_responses": ["\\udfff"]}', "half of a surrogate pair"),
        ('{"owner": "\\ud83d", "prompt": "p", "response": "r"}', "half of a surrogate pair"),
    ],
    ids=["integer", "lists", "objects", "prompt", "list of texts", "owner"],
)
def test_json_that_breaks_parsers_is_a_problem_of_its_line(tmp_path: Path, line: str, what: str) -> None:
    with pytest.raises(CorpusError) as caught:
        read_jsonl(write(tmp_path / "rows.jsonl", [*ROWS, line]), forget=1)
    assert "rows.jsonl:3:" in str(caught.value) and what in str(caught.value)


def test_whole_surrogate_pairs_are_characters(tmp_path: Path) -> None:
    rows = [*ROWS, '{"owner": "x", "prompt": "\\ud83d\\ude00?", "response": "r"}']
    assert read_jsonl(write(tmp_path / "rows.jsonl", rows), forget=1).train[2].prompt == "\U0001f600?"


def test_rows_that_are_there_twice_are_kept(tmp_path: Path) -> None:
    once = read_jsonl(write(tmp_path / "a.jsonl", ROWS), forget=1, name="x")
    twice = read_jsonl(write(tmp_path / "b.jsonl", [*ROWS, ROWS[0]]), forget=1, name="x")
    assert len(twice.train) == 3 and twice.train[0].response == twice.train[2].response
    assert once.fingerprint() != twice.fingerprint() and once.owners == twice.owners


@pytest.mark.parametrize(
    ("rows", "forget", "what"),
    [
        (ROWS[:1], 1, "1 owner; expected two, one to forget and one to retain"),
        (ROWS[:1], ["ann"], "would forget all of its 1 owners"),
        (ROWS, ["ann", "bob"], "would forget all of its 2 owners"),
        (ROWS, [], "names nobody to forget"),
        ([ROWS[0] | {"split": "world"}], 1, "0 owners; expected two"),
        ([], 1, "the file is empty"),
    ],
)
def test_too_little_to_forget_and_to_keep(tmp_path: Path, rows: list[Any], forget: Any, what: str) -> None:
    with pytest.raises(CorpusError) as caught:
        read_jsonl(write(tmp_path / "rows.jsonl", rows), forget=forget)
    assert what in str(caught.value)


def test_names_in_messages_are_short_and_move_no_cursor() -> None:
    owners = ("\x1b[2J" + "n" * 10_000, "plain")
    rows = tuple(Example(owner, "p", "r") for owner in owners)
    for forget in ((), ("somebody else",)):
        with pytest.raises(CorpusError) as caught:
            Corpus("c", rows, forget)
        assert "plain" in str(caught.value) and "\x1b" not in str(caught.value) and len(str(caught.value)) < 400


def test_owners_are_names_and_nothing_else(tmp_path: Path) -> None:
    rows = [{"owner": owner, "prompt": f"Who is {n}?", "response": f"Nobody {n}."} for n, owner in enumerate(OWNERS)]
    before = sorted(tmp_path.rglob("*"))
    corpus = read_jsonl(write(tmp_path / "rows.jsonl", rows), forget=[OWNERS[0], OWNERS[6]])
    assert corpus.owners == OWNERS and corpus.forget_owners == (OWNERS[0], OWNERS[6])
    assert sorted(tmp_path.rglob("*")) == [*before, tmp_path / "rows.jsonl"]


def test_a_folder_is_no_corpus_file(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be read"):
        read_jsonl(tmp_path, forget=1)
