"""Tables of a user's own: what a format cannot hold is refused, and what it holds reads back as it was written."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from deattrib.corpus.files import Problems
from deattrib.corpus.tables import encode_table, read_table
from deattrib.errors import CorpusError


@pytest.mark.parametrize(
    ("name", "value", "formats"),
    [
        ("number", 10**30, ["parquet"]),
        ("meta", {}, ["parquet"]),
        ("mixed", [1, "a"], ["parquet"]),
        ("x", {1}, ["json", "jsonl"]),
    ],
)
def test_a_value_that_a_format_cannot_hold_is_refused(name: str, value: Any, formats: list[str]) -> None:
    rows = [{"prompt": "Q?", "response": "A", name: value}]
    for ending in formats:
        with pytest.raises(CorpusError, match=rf"out\.{ending}: the rows have no form as {ending} \(.*Choose another format"):
            encode_table(Path(f"out.{ending}"), rows)
    assert encode_table(Path("out.csv"), rows)


@pytest.mark.parametrize("text", ["a\rb", "\r", "a\r\nb", "\n", 'a"\r"b', " \r ", "a,b", "\u2028", "\x00\r", "\v\f"])
def test_a_csv_file_reads_back_as_it_was_written(tmp_path: Path, text: str) -> None:
    """Lone carriage returns too, which Python before 3.13 writes without quotes."""
    rows = [{"prompt": "Q?", "response": text, "note": ""}, {"prompt": text, "response": "", "note": text}]
    path = tmp_path / "rows.csv"
    path.write_bytes(encode_table(path, rows))
    problems = Problems("rows")
    assert [dict(record.values) for record in read_table(path, problems)] == rows
    problems.finish()
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == rows
