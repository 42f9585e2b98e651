"""Tables of responses to be scored: JSON lines, CSV and parquet, read to records and encoded back.

One column per value, the same names in all three. A value that a format cannot hold is refused when the table is encoded,
which `deattrib score` does once before it begins.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from deattrib.corpus.files import Problems, Record, read_records, read_text
from deattrib.errors import CorpusError, did_you_mean

FORMATS: Final = (".jsonl", ".json", ".csv", ".parquet")


def table_format(path: Path) -> str:
    """The file's ending, one of FORMATS. Raises CorpusError."""
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise CorpusError(f"{path}: the ending {ending!r} is no known format.{did_you_mean(ending, FORMATS)}")
    return ending


def read_table(path: Path, problems: Problems) -> list[Record]:
    """The rows of a table in the format of its ending; what is wrong with single rows is noted in `problems`.

    An empty cell of a CSV file is an empty text. Raises CorpusError when the file as a whole cannot be read.
    """
    ending = table_format(path)
    if ending == ".csv":
        return _read_csv(path, problems)
    return _read_parquet(path) if ending == ".parquet" else read_records(path, problems)


def encode_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The rows as a file of the format of `path`'s ending. Columns are those of all rows, in order of first appearance.

    Raises:
        CorpusError: a value has no form in that format.
    """
    ending = table_format(path)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    try:
        if ending == ".parquet":
            return _encode_parquet(columns, rows)
        if ending == ".csv":
            return _encode_csv(columns, rows)
        if ending == ".json":
            return (json.dumps([dict(row) for row in rows], ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()
        return "".join(json.dumps(dict(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()
    except (TypeError, ValueError, OverflowError, NotImplementedError, RecursionError) as error:  # pyarrow's are among them
        raise CorpusError(
            f"{path}: the rows have no form as {ending[1:]} ({str(error).splitlines()[0]}). Choose another format for the "
            "output."
        ) from error


def csv_lines(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as CSV with "\\n" at the end of lines, so that a reader gets every text back.

    Before Python 3.13 a writer quotes "\\r" only where its own lines end with one: they do here, and are changed afterwards.
    """
    lines = []
    for row in rows:
        line = io.StringIO(newline="")
        csv.writer(line, lineterminator="\r\n").writerow(row)
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def _read_csv(path: Path, problems: Problems) -> list[Record]:
    text = read_text(path)
    if not text.strip():
        raise CorpusError(f"{path}: the file is empty, expected a line with the names of the columns.")
    limit = csv.field_size_limit(sys.maxsize)  # an answer may be longer than the module's 128 KiB
    records: list[Record] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader)
        for name in header:
            if header.count(name) > 1:
                raise CorpusError(f"{path}:1:1: the column {name!r} occurs twice, expected different names.")
        start = reader.line_num + 1
        for cells in reader:
            if cells and len(cells) != len(header):
                problems.add(f"{path}:{start}:1", f"{len(cells)} cells, expected {len(header)} as in the first line")
            elif cells:
                # Not "" as text: that would mean an array without lines.
                records.append(Record(path, start, 1, ",", dict(zip(header, cells, strict=True))))
            start = reader.line_num + 1
    except csv.Error as error:
        raise CorpusError(f"{path}:{reader.line_num}:1: not CSV ({error}), expected cells between commas.") from error
    finally:
        csv.field_size_limit(limit)
    return records


def _read_parquet(path: Path) -> list[Record]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise CorpusError(f"{path}: cannot be read as parquet ({str(error).splitlines()[0]}). Check the file.") from error
    return [Record(path, number, 1, "", row) for number, row in enumerate(rows, start=1)]


def _encode_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    def cell(value: Any) -> Any:
        """Lists and objects as JSON; None as an empty cell."""
        return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value

    return csv_lines([columns, *([cell(row.get(name)) for name in columns] for row in rows)]).encode()


def _encode_parquet(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    # By column: from rows, pyarrow would take the columns of the first one only.
    table = pyarrow.table({name: [row.get(name) for row in rows] for name in columns})
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data
