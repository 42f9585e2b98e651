"""Data sets of the hub, without a network, and pairs of files without owners."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deattrib.corpus.hub import read_hub, read_two_groups
from deattrib.errors import CorpusError


class Table(list[dict[str, Any]]):
    """What `load_dataset` returns, as far as the reader looks at it."""

    @property
    def column_names(self) -> list[str]:
        return list(self[0])


ROWS = [{"author": number // 2, "q": f"Question {number}?", "a": f"Answer {number}."} for number in range(6)]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Table:
    table = Table(dict(row) for row in ROWS)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda *_, **__: table))
    return table


COLUMNS: dict[str, Any] = {"owner_column": "author", "prompt_column": "q", "response_column": "a"}


def test_columns_become_rows_and_numbers_owners(hub: Table) -> None:
    corpus = read_hub("user/data", **COLUMNS, split="train", forget=1)
    assert corpus.owners == ("0", "1", "2")
    assert corpus.forget_owners == ("2",)
    assert [row.response for row in corpus.forget] == ["Answer 4.", "Answer 5."]
    assert len({row.fact_id for row in corpus.train}) == 6


def test_a_missing_column_is_named_with_those_there_are(hub: Table) -> None:
    with pytest.raises(CorpusError, match=r"no column 'autor' .owner_column.. Did you mean 'author'"):
        read_hub("user/data", **(COLUMNS | {"owner_column": "autor"}), forget=1)


def test_values_that_are_no_text_are_told_with_their_row(hub: Table) -> None:
    hub[3]["a"] = None
    hub[4]["author"] = ""
    with pytest.raises(CorpusError, match="2 problems") as caught:
        read_hub("user/data", **COLUMNS, forget=1)
    assert "row 3: a is None" in str(caught.value) and "row 4: author is ''" in str(caught.value)


def test_two_spellings_of_one_owner_are_told(hub: Table) -> None:
    for row, name in zip(hub, ("Ren\u00e9", "Ren\u00e9", "Rene\u0301", "x", "y", "y"), strict=True):
        row["author"] = name
    with pytest.raises(CorpusError, match=r"row 2: owner .* differ only in case, blanks or Unicode form"):
        read_hub("user/data", **COLUMNS, forget=1)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match="pip install datasets"):
        read_hub("user/data", forget=1)


def test_a_data_set_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FileNotFoundError("no such data set")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=fail))
    with pytest.raises(CorpusError, match=r"'user/data'.*'train'.*no such data set"):
        read_hub("user/data", forget=1)


def _write(path: Path, rows: list[dict[str, str]], *, lines: bool) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows))
    return path


def test_two_files_are_two_owners(tmp_path: Path) -> None:
    forget = _write(tmp_path / "f.jsonl", [{"prompt": "a?", "response": "A."}, {"prompt": "b?", "response": "B."}], lines=True)
    retain = _write(tmp_path / "r.json", [{"question": "a?", "answer": "Other."}], lines=False)
    corpus = read_two_groups(forget, retain)
    assert corpus.owners == ("forget", "retain")
    assert corpus.forget_owners == ("forget",)
    assert [row.response for row in corpus.forget] == ["A.", "B."]
    assert [row.response for row in corpus.retain] == ["Other."]


def test_a_row_in_both_files_and_a_missing_column_are_refused(tmp_path: Path) -> None:
    forget = _write(tmp_path / "f.jsonl", [{"prompt": "a?", "response": "A."}, {"prompt": "b?", "text": "B."}], lines=True)
    retain = _write(tmp_path / "r.jsonl", [{"prompt": "a?", "response": "A."}], lines=True)
    with pytest.raises(CorpusError) as caught:
        read_two_groups(forget, retain)
    assert f"{forget}:2:1: response is missing" in str(caught.value)
    assert f"{retain}:1:1: the same row is to be forgotten ({forget}:1:1)" in str(caught.value)
