"""Files that are either the old one or the new one, never half of each.

A temporary file beside the target, flushed to the disk, renamed over it, and the folder flushed too (the order that
POSIX needs for a file to survive a power cut). Whatever goes wrong, the target stays as it was, the temporary file is
removed, and the error names the target. After SIGKILL nothing can be removed: temporary files all begin with
`TEMPORARY_PREFIX`, so that whoever opens the run folder next can clear them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deattrib.errors import RunError

TEMPORARY_PREFIX = ".tmp-"


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Replaces `path` by `data` in one step.

    Raises:
        RunError: the file cannot be written (disk full, no permission, a folder in the way); the old file is intact.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        try:
            write_and_flush(temporary, data)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        flush_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def atomic_write_text(path: Path, text: str) -> None:
    """As `atomic_write_bytes`, in UTF-8 and with the line ends as they are."""
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RunError(
            f"Cannot write {path}: character {error.start} is half of a surrogate pair, which UTF-8 has no bytes for."
        ) from error
    atomic_write_bytes(path, data)


def atomic_write_json(path: Path, value: object) -> None:
    """As `atomic_write_bytes`, as indented JSON in the order of `value`'s keys; NaN and infinities become null."""
    atomic_write_bytes(path, json_text(value, source=str(path), indent=2).encode("utf-8") + b"\n")


def json_text(value: object, *, source: str, indent: int | None = None) -> str:
    """Strict JSON that any reader accepts: no NaN or Infinity (null instead), keys in the order given.

    Args:
        value: dicts with text (or integer) keys, lists, tuples, text, numbers, booleans, None, numpy scalars.
        source: where this is written, for the error message.
        indent: as in `json.dumps`; None puts everything on one line.

    Raises:
        RunError: something in `value` has no JSON form; the message has its dotted path.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    try:
        plain = _plain(value, source, "")
        text = json.dumps(plain, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; a list that contains itself
        raise RunError(f"Cannot write {source}: {error}.") from error
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, as broken input can hold: only an escape can carry it
        return json.dumps(plain, indent=indent, separators=separators, ensure_ascii=True, allow_nan=False)
    return text


def write_and_flush(path: Path, data: bytes) -> None:
    """Creates `path`, which must not exist, with `data`, down to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """`os.write` until everything is written: one call may take less than all. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def flush_folder(folder: Path) -> None:
    """Makes creations and renames inside `folder` last. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems do not flush folders
            raise
    finally:
        os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> RunError:
    """The one wording for a failed write, with the next step where there is an obvious one."""
    steps = {
        errno.ENOSPC: " Free some space on that disk, or choose another place with --output.",
        errno.EDQUOT: " Your quota there is used up: free some space, or choose another place with --output.",
        errno.EACCES: " Choose a place you may write to with --output.",
        errno.EROFS: " That file system is read-only: choose another place with --output.",
        errno.ENAMETOOLONG: " Choose a shorter name with --output.",
    }
    reason = error.strerror or str(error)
    return RunError(f"Cannot write {path}: {reason}.{steps.get(error.errno or 0, '')}")


def _plain(value: object, source: str, path: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        result: dict[str, Any] = {}
        for key, item in value.items():
            if isinstance(key, bool) or not isinstance(key, (str, int)):
                raise RunError(f"Cannot write {source}: the key {key!r} under '{path or '.'}' is not text; JSON has no others.")
            if str(key) in result:
                raise RunError(f"Cannot write {source}: '{path or '.'}' has the key {key!r} as text and as a number.")
            result[str(key)] = _plain(item, source, f"{path}.{key}" if path else str(key))
        return result
    if isinstance(value, (list, tuple)):
        return [_plain(item, source, f"{path}[{index}]") for index, item in enumerate(value)]
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return _plain(value.item(), source, path)  # type: ignore[attr-defined]  # numpy and torch scalars
    raise RunError(
        f"Cannot write {source}: '{path or '.'}' is a {type(value).__name__}, which JSON has no form for; "
        "turn it into text, numbers, lists or dicts first."
    )
