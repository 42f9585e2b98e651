"""Reading corpus files: text in UTF-8, JSON lines or one JSON array, and all that is wrong with them in one error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from deattrib.errors import CorpusError

MOST_PROBLEMS: Final = 20


class Problems:
    """Collects what is wrong, so that a user repairs a file once and not line by line."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._found: list[str] = []

    def add(self, where: str, message: str) -> None:
        """Note one problem. Raises CorpusError with all of them when there are MOST_PROBLEMS."""
        self._found.append(f"{where}: {message}")
        if len(self._found) >= MOST_PROBLEMS:
            self._stop(f" (stopped after {MOST_PROBLEMS})")

    def finish(self) -> None:
        """Raises CorpusError with every problem noted, if there is one."""
        if self._found:
            self._stop("")

    def _stop(self, more: str) -> NoReturn:
        count = f"{len(self._found)} problem{'s' if len(self._found) > 1 else ''}"
        raise CorpusError(f"{self._what} cannot be used, {count}{more}:\n  " + "\n  ".join(self._found))


@dataclass(frozen=True, slots=True)
class Record:
    """One JSON object of a file. `line` and `column` count from 1; `text` is the line it stands on, "" in an array."""

    path: Path
    line: int
    column: int
    text: str
    values: Mapping[str, Any]

    def where(self, field: str | None = None) -> str:
        """`file:line:column`, the column being that of `field` where the line shows it; in an array `file: record n`."""
        if not self.text:
            return f"{self.path}: record {self.line}" + (f", {field!r}" if field else "")
        found = self.text.find(json.dumps(field)) if field else -1
        return f"{self.path}:{self.line}:{found + 1 if found >= 0 else self.column}"


def _here() -> str:
    try:
        return f" {Path.cwd()}"
    except OSError:  # it was removed
        return ""


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file without its byte order mark. Raises CorpusError if there is none or it is not UTF-8."""
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        looked = "" if path.is_absolute() else f" from the working directory{_here()}"
        raise CorpusError(
            f"{path}: cannot be read ({error.strerror or error}), expected a file. Check the path{looked}."
        ) from error
    except ValueError as error:  # a NUL, which no path has
        raise CorpusError(f"{str(path)!r}: cannot be read ({error}), expected a file. Check the path.") from error
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise CorpusError(f"{path}:1:1: this is UTF-16, expected UTF-8. Save the file again with encoding UTF-8.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise CorpusError(
            f"{path}:{line}:{column}: byte 0x{raw[error.start]:02x} is not UTF-8, expected UTF-8 text."
            " Save the file again with encoding UTF-8 (it may be Latin-1 or Windows-1252)."
        ) from error


def read_records(path: str | Path, problems: Problems | None = None) -> list[Record]:
    """The objects of a file of JSON lines or of one JSON array; which of the two it is shows in its first character.

    Empty lines are skipped. With `problems` a bad line is noted there and left out; without, it raises.
    Raises CorpusError if the file is unreadable or empty.
    """
    path = Path(path)
    text = read_text(path)
    if not text.strip():
        raise CorpusError(f"{path}: the file is empty, expected one JSON object per line.")
    own = problems if problems is not None else Problems(str(path))
    records = _array(path, text, own) if text.lstrip().startswith("[") else _lines(path, text, own)
    if problems is None:
        own.finish()
    return records


def _array(path: Path, text: str, problems: Problems) -> list[Record]:
    try:
        items = parse_json(text)
    except (ValueError, RecursionError) as error:
        where, what = explain_json(error)
        problems.add(f"{path}:{where or '1:1'}", f"{what}, expected a JSON array of objects")
        return []
    records = []
    for number, item in enumerate(items, start=1):
        if isinstance(item, dict):
            records.append(Record(path, number, 1, "", item))
        else:
            problems.add(f"{path}: record {number}", f"{_kind(item)}, expected an object")
    return records


def _lines(path: Path, text: str, problems: Problems) -> list[Record]:
    records = []
    # Not splitlines(): U+2028 and the like may stand inside a JSON string.
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line.strip():
            continue
        column = len(line) - len(line.lstrip()) + 1
        try:
            item = parse_json(line)
        except (ValueError, RecursionError) as error:
            where, what = explain_json(error)
            problems.add(f"{path}:{number}:{where.partition(':')[2] or column}", f"{what}, expected one JSON object per line")
            continue
        if isinstance(item, dict):
            records.append(Record(path, number, column, line, item))
        else:
            problems.add(f"{path}:{number}:{column}", f"{_kind(item)}, expected a JSON object")
    return records


def parse_json(text: str) -> Any:
    """What a JSON text holds. Raises ValueError, also where a key occurs twice or a number is too long; RecursionError."""
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} occurs twice")
        result[key] = value
    return result


def explain_json(error: Exception) -> tuple[str, str]:
    """Where (`line:column`, "" if unknown) and what is wrong, of an error of `parse_json`."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.lineno}:{error.colno}", f"not JSON ({error.msg})"
    return "", "nested too deep" if isinstance(error, RecursionError) else str(error)


def is_broken(text: str) -> bool:
    """Whether there is half of a surrogate pair in it, which JSON can carry and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _kind(value: object) -> str:
    names = {str: "a string", bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def optional_text(record: Record, field: str, problems: Problems) -> str | None:
    """A field that may be missing or null; noted as a problem (and None) when it is no string or is blank."""
    value = record.values.get(field)
    if value is None:
        return None
    if not isinstance(value, str):
        problems.add(record.where(field), f"{field} is {_kind(value)}, expected a string")
        return None
    if not value.strip():
        problems.add(record.where(field), f"{field} is blank, expected text")
        return None
    if is_broken(value):
        problems.add(record.where(field), f"{field} holds half of a surrogate pair, which is no character")
        return None
    return value


def required_text(record: Record, field: str, problems: Problems, hint: str = "") -> str | None:
    """A field that must be there; None, noted as a problem, when it is not."""
    if record.values.get(field) is None:
        problems.add(record.where(), f"{field} is missing, expected a string.{hint}")
        return None
    return optional_text(record, field, problems)


def texts(record: Record, field: str, problems: Problems) -> tuple[str, ...]:
    """A field that is a string or a list of strings; () when missing or null."""
    value = record.values.get(field)
    if isinstance(value, list) and not all(isinstance(item, str) and item.strip() for item in value):
        problems.add(record.where(field), f"{field} holds something other than text, expected a list of strings")
        return ()
    if isinstance(value, list):
        if any(is_broken(item) for item in value):
            problems.add(record.where(field), f"{field} holds half of a surrogate pair, which is no character")
            return ()
        return tuple(value)
    single = optional_text(record, field, problems)
    return () if single is None else (single,)
