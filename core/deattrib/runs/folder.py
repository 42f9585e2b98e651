"""The folder of one run: what is in it, who may write to it, and which state it is in.

    config.yaml       every setting after defaults and overrides
    manifest.json     versions, seeds, fingerprints, command line
    state.json        created, running, finished, failed or interrupted; written last when the folder is made
    events.jsonl      what happened, step by step, without wall-clock times; timings.jsonl has those
    metrics.json      the result; rows.safetensors has it row by row
    checkpoints/      see `deattrib.runs.checkpoint`

A run that is finished, or that could be resumed, is never overwritten; a run that a live process works on is not touched.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

from deattrib.errors import ConfigError, RunError, did_you_mean
from deattrib.report.files import read_object
from deattrib.runs.atomic import TEMPORARY_PREFIX, atomic_write_json, atomic_write_text, cannot_write
from deattrib.runs.lock import LOCK_NAME, RunLock
from deattrib.runs.manifest import SCHEMA, build_manifest
from deattrib.yaml_file import dump_yaml, load_yaml

RunState = Literal["created", "running", "finished", "failed", "interrupted"]

_STATES: tuple[RunState, ...] = get_args(RunState)
_LONGEST_NAME = 80
"""Bytes of each part of a default folder name; file systems allow 255 for all of it."""


class RunFolder:
    """A run folder that this process has locked; `create` and `open` make one, `close` (or `with`) lets go of it.

    Attributes:
        path: the folder.
        config: the resolved settings, as read back from `config.yaml`.
        manifest: the contents of `manifest.json`.
    """

    def __init__(self, path: Path, lock: RunLock, config: dict[str, Any], manifest: dict[str, Any]) -> None:
        self.path = path
        self.config = config
        self.manifest = manifest
        self._lock = lock

    @classmethod
    def create(
        cls,
        path: Path,
        config: Mapping[str, Any],
        *,
        seeds: Mapping[str, int],
        fingerprints: Mapping[str, Any],
        arguments: Sequence[str] = (),
    ) -> RunFolder:
        """Makes the folder of a new run, state "created", and locks it.

        An empty folder is used as it is, and so is one whose creation was cut short, or whose run failed before it had a
        checkpoint: what it was given is mended, and there is nothing to go on with.

        Args:
            path: the folder; missing parents are made.
            config: every setting as plain values (`model_dump(mode="json")`).
            seeds, fingerprints, arguments: for the manifest, see `build_manifest`.

        Raises:
            RunError: there is a run already (finished or not), something else is there, it is in use, or the disk refuses.
            ConfigError: `config` has values that YAML has no plain form for.
        """
        text = dump_yaml(config)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error
        _refuse_existing(path)
        lock = RunLock(path)
        try:
            _refuse_existing(path)  # again, now that nobody else can be making it
            clear_temporary(path)
            _clear_failed(path)
            manifest = build_manifest(seeds=seeds, fingerprints=fingerprints, arguments=arguments)
            atomic_write_text(path / "config.yaml", text)
            atomic_write_json(path / "manifest.json", manifest)
            folder = cls(path, lock, load_yaml(path / "config.yaml"), read_manifest(path))
            try:
                folder.checkpoints.mkdir(exist_ok=True)
            except OSError as error:
                raise cannot_write(folder.checkpoints, error) from error
            folder.set_state("created")
            return folder
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Locks an existing run, in whatever state, and reads its config and manifest back.

        Raises:
            RunError: no run there, in use, or its files cannot be read.
        """
        read_state(path)
        lock = RunLock(path)
        try:
            clear_temporary(path)
            return cls(path, lock, read_config(path), read_manifest(path))
        except BaseException:
            lock.release()
            raise

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def timings(self) -> Path:
        return self.path / "timings.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def state(self) -> RunState:
        """As on disk. A killed run stays "running"; the lock, not the state, says whether it is alive."""
        return read_state(self.path)

    def set_state(self, state: RunState, *, reason: str | None = None) -> None:
        """Stores the state; `reason` is for people (the error of a failed run). Raises RunError."""
        atomic_write_json(self.path / "state.json", {"schema": SCHEMA, "state": state, "reason": reason})

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Writes `metrics.json` in one step; NaN and infinities become null. Raises RunError."""
        atomic_write_json(self.metrics, metrics)

    def add_fingerprints(self, fingerprints: Mapping[str, Any]) -> None:
        """Adds what was not known when the folder was made to the manifest. Raises RunError."""
        known = self.manifest.get("fingerprints", {})
        manifest = {**self.manifest, "fingerprints": {**known, **fingerprints}}
        atomic_write_json(self.path / "manifest.json", manifest)
        self.manifest = manifest

    def close(self) -> None:
        """Lets go of the folder; more than once does no harm."""
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def default_output(root: Path, *, name: str, reward: str, seed: int) -> Path:
    """Where a run goes without --output: `root/<name>-<reward>-seed<k>`, with -2, -3 ... behind finished runs.

    An unfinished run's folder is returned as it is, so that `create` refuses and tells how to resume.
    """
    base = f"{plain_name(name)}-{plain_name(reward)}-seed{seed}"
    path, number = root / base, 1
    while _state_or_none(path) == "finished":
        number += 1
        path = root / f"{base}-{number}"
    return path


def read_config(path: Path) -> dict[str, Any]:
    """The resolved settings of a run, without locking it. Raises RunError."""
    try:
        return load_yaml(path / "config.yaml")
    except ConfigError as error:
        raise RunError(f"The run folder {path} cannot be read: {error}") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """`manifest.json` of a run, without locking it. Raises RunError."""
    manifest = _read_json(path / "manifest.json")
    known = manifest.get("fingerprints", {})
    if not isinstance(known, dict) or not isinstance(known.get("loaded", {}), dict):
        raise RunError(f"{path / 'manifest.json'}: `fingerprints` is no object of names and values; the file is damaged.")
    return manifest


def failed_in_vain(path: Path) -> bool:
    """Whether the run there failed before it had a checkpoint, so that it can only be begun anew. Raises RunError."""
    left = [*path.glob("checkpoints/*"), *path.glob("metrics.json")]
    return read_state(path) == "failed" and not left


def read_state(path: Path) -> RunState:
    """The state of a run, without locking it.

    Raises:
        RunError: there is no run (names close ones beside it), or its state cannot be read.
    """
    if not (path / "state.json").is_file():
        if path.is_dir() and any((path / name).exists() for name in (LOCK_NAME, "manifest.json")):
            raise RunError(f"The run in {path} was cut off before it began: start it again without --resume.")
        beside = [item.parent.name for item in path.parent.glob("*/state.json")]
        raise RunError(f"{path} is not a run folder.{did_you_mean(path.name, beside)}")
    value = _read_json(path / "state.json").get("state")
    for state in _STATES:
        if state == value:
            return state
    raise RunError(f"{path / 'state.json'}: the state {value!r} is none of {', '.join(_STATES)}.")


def clear_temporary(path: Path) -> None:
    """Removes the half-written files and folders that a killed process left in `path`. Raises RunError."""
    for item in path.glob(TEMPORARY_PREFIX + "*"):
        try:
            if item.is_file():
                item.unlink(missing_ok=True)
            elif item.is_dir() and not item.is_symlink():
                shutil.rmtree(item)
        except OSError as error:
            raise cannot_write(item, error) from error


def _refuse_existing(path: Path) -> None:
    try:
        names = {item.name for item in path.iterdir() if not item.name.startswith(TEMPORARY_PREFIX)}
        half_made = not names or (LOCK_NAME in names and names <= {LOCK_NAME, "config.yaml", "manifest.json", "checkpoints"})
        empty = "checkpoints" not in names or not any((path / "checkpoints").iterdir())
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror}.") from error
    if half_made and empty:
        return
    if "state.json" not in names:
        raise RunError(f"{path} is not empty and not a run folder; choose another with --output.")
    if failed_in_vain(path):
        return
    if read_state(path) == "finished":
        raise RunError(
            f"There is a finished run in {path}, which is never overwritten: its result is in metrics.json and report.html. "
            "Choose another folder with --output, or remove this one first."
        )
    raise RunError(
        f"There is an unfinished run in {path}. Go on with it, with the settings that it has, with --resume {path}; for others "
        "choose another folder with --output, or remove this one first."
    )


def _clear_failed(path: Path) -> None:
    """Removes what a run left that failed before its first checkpoint, but for its state, which the new one writes over."""
    for name in ("events.jsonl", "timings.jsonl", "report.html"):
        try:
            (path / name).unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(path / name, error) from error


def _state_or_none(path: Path) -> RunState | None:
    with contextlib.suppress(RunError, OSError):
        return read_state(path)
    return None


def _read_json(path: Path) -> dict[str, Any]:
    value = read_object(path)
    if value.get("schema") != SCHEMA:
        raise RunError(f"{path}: has schema {value.get('schema')!r}, this version of deattrib reads schema {SCHEMA}.")
    return value


def plain_name(name: str) -> str:
    """`name` as part of a file name: letters, digits and ".-_", at most 80 bytes; "run" where nothing is left."""
    words = re.sub(r"[^\w.\-]+", "-", unicodedata.normalize("NFC", name), flags=re.UNICODE)
    return words.encode("utf-8", "ignore")[:_LONGEST_NAME].decode("utf-8", "ignore").strip("-._") or "run"
