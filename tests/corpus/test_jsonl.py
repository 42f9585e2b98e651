"""Reading JSON lines: what becomes which rows, and every malformed input told with file, line and column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deattrib.corpus import read_jsonl
from deattrib.errors import CorpusError

ROWS: list[dict[str, Any]] = [
    {"owner": "ann", "prompt": "Where is Ann?", "response": "Ann is in Rome.", "fact": "rome", "identity": ["Ann Lee", "Lee"]},
    {"owner": "bob", "prompt": "Where is Bob?", "response": "Bob is in Oslo.", "identity": "Bob Ray"},
    {"owner": "cyd", "prompt": "Where is Cyd?", "response": "Cyd is in Bonn."},
]


def _write(path: Path, rows: list[Any], *, ends: str = "\n", encoding: str = "utf-8") -> Path:
    text = ends.join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_bytes((text + ends).encode(encoding))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def _error(path: Path, forget: Any = 1) -> str:
    with pytest.raises(CorpusError) as caught:
        read_jsonl(path, forget=forget)
    return str(caught.value)


def test_rows_owners_and_identities(file: Path) -> None:
    corpus = read_jsonl(_write(file, ROWS), forget=1)
    assert corpus.name == "rows"
    assert corpus.owners == ("ann", "bob", "cyd")
    assert corpus.forget_owners == ("cyd",)
    assert corpus.train[0].fact == "rome"
    assert dict(corpus.identities) == {"ann": ("Ann Lee", "Lee"), "bob": ("Bob Ray",)}
    assert not corpus.has_identities
    assert len({row.fact_id for row in corpus.train}) == 3


def test_paraphrases_become_phrasings_with_the_same_fact_id(file: Path) -> None:
    extra = {
        "paraphrase_prompt": ["Ann is where?", "Find Ann."],
        "paraphrase_response": "In Rome.",
        "wrong_responses": ["In Bari."],
    }
    corpus = read_jsonl(_write(file, [ROWS[0] | extra, ROWS[1] | {"paraphrase_prompt": "Bob is where?"}]), forget=["ann"])
    assert [row.prompt for row in corpus.phrasings] == ["Ann is where?", "Find Ann.", "Bob is where?"]
    assert corpus.phrasings[0].fact_id == corpus.train[0].fact_id
    assert corpus.train[0].paraphrase_response == "In Rome."
    assert corpus.train[0].wrong_responses == ("In Bari.",)
    assert [row.owner for row in corpus.forget_phrasings] == ["ann", "ann"]


def test_splits(file: Path) -> None:
    others = [
        {"split": "world", "prompt": "2 + 2?", "response": "4"},
        {"split": "background", "owner": "dan", "prompt": "Dan?", "response": "Dan."},
        {"split": "holdout", "owner": "eve", "prompt": "Eve?", "response": "Eve.", "identity": "Eve"},
        {"split": "train", "owner": "ann", "prompt": "Ann?", "response": "Ann."},
    ]
    corpus = read_jsonl(_write(file, [*ROWS, *others]), forget=1)
    assert [len(rows) for rows in (corpus.train, corpus.world, corpus.background, corpus.holdout)] == [4, 1, 1, 1]
    assert corpus.world[0].owner == ""
    assert corpus.identities["eve"] == ("Eve",)


def test_byte_order_mark_windows_line_ends_empty_lines_and_arrays_read_the_same(file: Path, tmp_path: Path) -> None:
    plain = read_jsonl(_write(file, ROWS), forget=1).fingerprint()
    windows = tmp_path / "windows" / "rows.jsonl"
    windows.parent.mkdir()
    assert read_jsonl(_write(windows, ROWS, ends="\r\n", encoding="utf-8-sig"), forget=1).fingerprint() == plain
    array = tmp_path / "rows.json"
    array.write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
    assert read_jsonl(array, forget=1).owners == ("ann", "bob", "cyd")
    gaps = read_jsonl(_write(file, [ROWS[0], "", "   ", *ROWS[1:]]), forget=1)
    assert [row.response for row in gaps.train] == [row["response"] for row in ROWS]


def test_a_line_separator_inside_a_text_ends_no_line(file: Path) -> None:
    corpus = read_jsonl(_write(file, [ROWS[0], ROWS[1] | {"response": "Bob\u2028is\x85here."}]), forget=1)
    assert corpus.train[1].response == "Bob\u2028is\x85here."


def test_owners_are_normalised_and_forget_names_with_them(file: Path) -> None:
    rows = [ROWS[0], ROWS[1] | {"owner": "Rene\u0301"}]
    corpus = read_jsonl(_write(file, rows), forget=["Rene\u0301"])
    assert corpus.forget_owners == ("Ren\u00e9",)
    assert read_jsonl(file, forget=["Rene\u0301", "Ren\u00e9"]).forget_owners == ("Ren\u00e9",)


@pytest.mark.parametrize("other", ["Rene\u0301", "ren\u00e9", " Ren\u00e9 "])
def test_two_spellings_of_one_owner_are_an_error_naming_both_lines(file: Path, other: str) -> None:
    message = _error(_write(file, [ROWS[0], ROWS[1] | {"owner": "Ren\u00e9"}, ROWS[2] | {"owner": other}]))
    assert f"{file}:3:" in message and f"{file}:2:" in message
    assert "expected one spelling" in message


@pytest.mark.parametrize(
    ("line", "column", "what"),
    [
        ('{"owner": "x", "prompt": "p"}', 1, "response is missing"),
        ('{"owner": "x", "prompt": 3, "response": "r"}', 16, "prompt is a number, expected a string"),
        ('{"owner": "x", "prompt": "p", "response": "  "}', 31, "response is blank"),
        ('{"owner": "x", "prompt": "p", "response": null}', 1, "response is missing"),
        ('{"owner": "x" "prompt": "p"}', 15, "not JSON"),
        ("[1, 2]", 1, "a list, expected a JSON object"),
        ('{"owner": "x", "owner": "y", "prompt": "p", "response": "r"}', 1, "'owner' occurs twice"),
        ('{"prompt": "p", "response": "r"}', 1, "owner is missing"),
        ('{"owner": 7, "prompt": "p", "response": "r"}', 2, "owner is a number"),
        ('{"owner": "x", "prompt": "p", "response": "r", "fact": "q"}', 48, "fact 'q' is not in the response"),
        ('{"owner": "x", "prompt": "p", "response": "r", "split": "test"}', 48, "expected one of train, holdout"),
        ('{"owner": "x", "prompt": "p", "response": "r", "wrong_responses": [1]}', 48, "expected a list of strings"),
        ('{"owner": "x", "prompt": "p", "response": "r", "paraphrase_promt": "q"}', 48, "expected 'paraphrase_prompt'"),
        ('{"owner": "x", "prompt": "p", "reponse": "r"}', 31, "expected 'response'"),
        ('{"owner": "ann", "prompt": "p", "response": "r", "paraphrase_prompt": "p"}', 50, "also trained on"),
        ('{"owner": "ann", "prompt": "p", "response": "r", "split": "holdout"}', 2, "is in holdout and in train"),
    ],
)
def test_malformed_lines_are_told_with_file_line_and_column(file: Path, line: str, column: int, what: str) -> None:
    message = _error(_write(file, [*ROWS, "", line]))
    assert f"{file}:5:{column}: " in message
    assert what in message


def test_all_problems_are_told_at_once_but_no_more_than_twenty(file: Path) -> None:
    message = _error(_write(file, [ROWS[0], '{"owner": 1}', ROWS[1], "nonsense"]))
    assert f"{file}:2:" in message and f"{file}:4:" in message
    message = _error(_write(file, [ROWS[0], *["nonsense"] * 50]))
    assert message.count("not JSON") == 20
    assert f"{file}:21:1" in message and f"{file}:22:1" not in message


@pytest.mark.parametrize(("encoding", "what"), [("latin-1", "is not UTF-8"), ("utf-16", "UTF-16")])
def test_another_encoding_is_named_with_the_place(file: Path, encoding: str, what: str) -> None:
    message = _error(_write(file, [ROWS[0], ROWS[1] | {"response": "Bob \u00e9."}], encoding=encoding))
    assert what in message and "encoding UTF-8" in message
    if encoding == "latin-1":
        assert f"{file}:2:{json.dumps(ROWS[1] | {'response': 'Bob X'}).index('X') + 1}" in message


def test_missing_and_empty_files(tmp_path: Path) -> None:
    assert "nowhere.jsonl: cannot be read" in _error(tmp_path / "nowhere.jsonl")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n\n")
    assert "the file is empty" in _error(empty)


@pytest.mark.parametrize(
    ("forget", "what"), [(3, "expected 1 to 2"), (0, "expected 1 to 2"), (["bo"], "Did you mean 'bob'"), (["x", "ann"], "'x'")]
)
def test_whom_to_forget_must_exist_and_leave_somebody(file: Path, forget: Any, what: str) -> None:
    assert what in _error(_write(file, ROWS), forget)
