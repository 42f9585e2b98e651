"""The event log of a run: one JSON object per line, appended and flushed event by event.

A resumed run must leave the same log, to the byte, as one that was never disturbed. So events carry no wall-clock values
(`TimingLog` has those, in a file that nobody compares), and a checkpoint stores how long the log was: on resume everything
behind that is cut off, and the steps that are done again write it again. Write the "checkpoint" event *before* `sync`,
whose result goes into the checkpoint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deattrib.errors import RunError
from deattrib.runs.atomic import cannot_write, json_text, write_all

SCHEMA = 1
_RESERVED = frozenset({"schema", "step", "kind"})
_CLOCK_WORDS = frozenset({"seconds", "elapsed", "duration", "time", "timestamp", "date", "clock"})


class _Lines:
    """An append-only file of JSON lines that never keeps half a line."""

    def __init__(self, path: Path, position: int | None = None) -> None:
        self.path = path
        try:
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            self._position = self._check(position) if position is not None else self._end_of_last_line()
            os.ftruncate(self._descriptor, self._position)
            os.lseek(self._descriptor, self._position, os.SEEK_SET)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise cannot_write(path, error) from error
            raise

    @property
    def position(self) -> int:
        """Bytes of complete lines."""
        return self._position

    def sync(self) -> int:
        """Brings every line down to the disk and returns `position`, for the checkpoint. Raises RunError."""
        try:
            os.fsync(self._open_descriptor())
        except OSError as error:
            raise cannot_write(self.path, error) from error
        return self._position

    def close(self) -> None:
        """More than once does no harm."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _write(self, value: Mapping[str, Any]) -> None:
        descriptor = self._open_descriptor()
        line = json_text(value, source=str(self.path)).encode("utf-8") + b"\n"
        try:
            write_all(descriptor, line)
        except OSError as error:
            os.ftruncate(descriptor, self._position)  # making a file shorter needs no space
            os.lseek(descriptor, self._position, os.SEEK_SET)
            raise cannot_write(self.path, error) from error
        self._position += len(line)

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            raise RunError(f"Cannot write {self.path}: the log is closed.")
        return self._descriptor

    def _end_of_last_line(self) -> int:
        """Where the last newline ends, found from the back in blocks: logs can be long."""
        descriptor = self._open_descriptor()
        end = os.fstat(descriptor).st_size
        while end > 0:
            start = max(0, end - 65536)
            newline = os.pread(descriptor, end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0

    def _check(self, position: int) -> int:
        descriptor = self._open_descriptor()
        size = os.fstat(descriptor).st_size
        if not 0 <= position <= size or (position > 0 and os.pread(descriptor, 1, position - 1) != b"\n"):
            raise RunError(
                f"{self.path} does not have the {position} bytes of whole lines that the checkpoint counts on (it has {size} "
                "bytes): it was changed or cut after the checkpoint. Restore it, or start the run anew with --output."
            )
        return position


class EventLog(_Lines):
    """`events.jsonl`: opened at its end, or on resume at a checkpoint's position, with everything behind it cut off.

    Args:
        path: the file; made where there is none. A half-written last line is cut off in any case.
        position: the checkpoint's `sync()` result; 0 to begin anew.

    Raises:
        RunError: the file cannot be written, or is shorter than `position`.
    """

    def append(self, kind: str, step: int, **fields: Any) -> None:
        """Writes one event: {"schema": 1, "step": step, "kind": kind, **fields}, NaN and infinities as null.

        Args:
            kind: "step", "stage", "warning", "checkpoint" ...
            step: PPO steps done; 0 before the first.
            fields: plain values; no wall-clock ones.

        Raises:
            RunError: the disk refuses (the log is then as before), or a field is named after a clock.
        """
        for name in fields:
            if name in _RESERVED or _CLOCK_WORDS & set(name.lower().split("_")):
                raise RunError(
                    f"An event may not have a field {name!r}: resumed and undisturbed runs must write the same log. "
                    "Times go to the TimingLog."
                )
        self._write({"schema": SCHEMA, "step": step, "kind": kind, **fields})


class TimingLog(_Lines):
    """`timings.jsonl`: how long things took on this machine. A resume appends to it."""

    def append(self, kind: str, step: int, seconds: float, **fields: Any) -> None:
        """Writes {"schema": 1, "step": step, "kind": kind, "seconds": seconds, **fields}. Raises RunError."""
        self._write({"schema": SCHEMA, "step": step, "kind": kind, "seconds": seconds, **fields})


class Unwritten:
    """The logs of a process that leaves writing to another one."""

    def append(self, kind: str, step: int, *_values: Any, **_fields: Any) -> None:
        """Nothing."""

    def sync(self) -> int:
        """0."""
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        return None


def seconds_until(path: Path, step: int) -> float:
    """What the timings say of the steps up to `step`, one that was made twice counted once; 0 where they cannot be read."""
    try:
        timings = read_events(path)
        took = {int(one["step"]): float(one["seconds"]) for one in timings if one["kind"] == "step" and one["step"] <= step}
    except (RunError, KeyError, TypeError, ValueError):
        return 0.0
    return sum(took.values())


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a log (or the timings), in order, also while a run writes to it: half a last line is left out.

    Raises:
        RunError: no such file, a line that is not an event (file:line), or one of another schema.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror}.") from error
    events: list[dict[str, Any]] = []
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].split(b"\n")[:-1], start=1):
        try:
            event = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}:{number}: not JSON ({error}); the log is damaged.") from error
        if not isinstance(event, dict) or event.get("schema") != SCHEMA:
            raise RunError(f"{path}:{number}: not an event of schema {SCHEMA}, which this version of deattrib reads.")
        events.append(event)
    return events
