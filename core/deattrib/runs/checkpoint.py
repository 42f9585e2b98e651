"""Checkpoints that are whole or not there: staged, hashed, renamed; tensors as safetensors, the rest as JSON, no pickle.

    checkpoints/step-000123/tensors.safetensors   every tensor
                            state.json            everything else, see `deattrib.runs.checkpoint_tree`
                            MANIFEST.json         size and SHA-256 of both, written last

All of it is written and flushed in `.tmp-...` beside its place, which is then renamed; older checkpoints go only after
that. A process can be killed at any instant: what has the name of a checkpoint is complete, and whatever breaks later (a
bad disk, a copy cut short) is found by the hashes and skipped with its reason. One writer per folder is assumed (the run's
lock).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deattrib.errors import RunError
from deattrib.runs.atomic import TEMPORARY_PREFIX, cannot_write, flush_folder, write_and_flush
from deattrib.runs.checkpoint_tree import decode, encode

SCHEMA = 1
_STATE, _TENSORS, _MANIFEST = "state.json", "tensors.safetensors", "MANIFEST.json"
# "replaced": a complete checkpoint of a step that is just being saved again, until the new one has its name.
_NAME = re.compile(r"(step|replaced)-(\d{6,18})\Z")


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], *, keep: int) -> Path:
    """Writes `state` as the checkpoint of `step` and removes what is no longer needed.

    Kept are the `keep` newest complete ones up to `step`. Those of later steps go: they belong to a course of the run that
    a resume from before them has left.

    Args:
        folder: the run's `checkpoints/`; made where it is missing.
        step: ≥ 0, steps done.
        state: nested dicts and lists of JSON values and tensors, see `checkpoint_tree.encode`.
        keep: ≥ 1.

    Returns:
        The checkpoint's folder.

    Raises:
        RunError: `state` has something that cannot be saved, or the disk refuses; older checkpoints are then as before and
            nothing half-written is left.
    """
    if step < 0 or keep < 1:
        raise RunError(f"A checkpoint needs step >= 0 and keep >= 1, got step {step} and keep {keep}.")
    tree, tensors = encode(state)
    try:
        text = json.dumps({"schema": SCHEMA, "step": step, "state": tree}, allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits
        raise RunError(f"A checkpoint cannot hold this state: {error}.") from error
    final = folder / f"step-{step:06d}"
    staging = folder / f"{TEMPORARY_PREFIX}{final.name}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear_stale(folder)
        staging.mkdir()
        files = {_TENSORS: _write_tensors(staging / _TENSORS, tensors)}
        files[_STATE] = _write(staging / _STATE, text)
        manifest = {"schema": SCHEMA, "step": step, "files": files}
        _write(staging / _MANIFEST, json.dumps(manifest, indent=2) + "\n")
        flush_folder(staging)
        _put_in_place(folder, staging, final)
        _prune(folder, step, keep)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, OSError):
            raise cannot_write(Path(error.filename) if isinstance(error.filename, str) else final, error) from error
        raise
    return final


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in the checkpoint `path`, every file checked against its hash first.

    Tensors are on the CPU in memory of their own (not mapped from the file: the alignment of memory can change the last bit
    of a matrix product, and a resumed run has to be equal to the last bit).

    Raises:
        RunError: missing, incomplete, damaged or of another schema; says which file and why.
    """
    reason = _damage(path)
    if reason is not None:
        raise RunError(f"The checkpoint {path} cannot be used: {reason}.")
    return _read(path)


def load_newest(folder: Path) -> tuple[Path | None, dict[str, Any], list[tuple[Path, str]]]:
    """`newest_complete` with its state, {} where there is none; hashed once. Raises RunError as `load_checkpoint`."""
    path, skipped = newest_complete(folder)
    return path, _read(path) if path is not None else {}, skipped


def _read(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    try:
        tree = json.loads((path / _STATE).read_bytes())["state"]
        tensors = {name: tensor.clone() for name, tensor in load_file(path / _TENSORS).items()}
        state = decode(tree, tensors)
    except RunError:
        raise
    except Exception as error:  # the hashes fit, so it was written like this: by another program
        raise RunError(f"The checkpoint {path} cannot be used: {type(error).__name__}: {error}.") from error
    if not isinstance(state, dict):
        raise RunError(f"The checkpoint {path} cannot be used: its state is a {type(state).__name__}, not a dict.")
    return state


def checkpoint_step(path: Path) -> int:
    """The step in a checkpoint's name. Raises RunError for other names."""
    match = _NAME.match(path.name)
    if match is None:
        raise RunError(f"{path} is not a checkpoint; their names are step-000000 and so on.")
    return int(match[2])


def newest_complete(folder: Path) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The newest checkpoint whose files are all there and fit their hashes, and those newer that do not, with reasons.

    Changes nothing on disk. (None, ...) where there is none. Temporary folders of a killed process are not checkpoints and
    not listed.
    """
    skipped: list[tuple[Path, str]] = []
    for path in reversed(_checkpoints(folder)):
        reason = _damage(path)
        if reason is None:
            return path, skipped
        skipped.append((path, reason))
    return None, skipped


def _write(path: Path, text: str) -> dict[str, Any]:
    data = text.encode("ascii")
    with _naming(path):
        write_and_flush(path, data)
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _write_tensors(path: Path, tensors: Mapping[str, Any]) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with _naming(path):
            save_file(dict(tensors), path)
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"size": path.stat().st_size, "sha256": digest}
    except SafetensorError as error:  # its own wrapping of what the system said
        raise RunError(f"Cannot write {path}: {error}. Is the disk full?") from error


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of the system that come without a file's name get one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _put_in_place(folder: Path, staging: Path, final: Path) -> None:
    replaced = folder / final.name.replace("step-", "replaced-")
    if final.exists():
        if _damage(final) is None:
            _remove(replaced)
            final.rename(replaced)  # still found by `newest_complete`, should this be the last moment
        else:
            _remove(final)
    staging.rename(final)
    flush_folder(folder)
    _remove(replaced)


def _prune(folder: Path, step: int, keep: int) -> None:
    """Sizes alone tell a good older checkpoint from a bad one here: hashing gigabytes at every save would cost more."""
    kept = 0
    for path in reversed(_checkpoints(folder)):
        good = checkpoint_step(path) <= step and _damage(path, hashes=False) is None
        kept += good
        if not good or kept > keep:
            _remove(path)


def _remove(path: Path) -> None:
    """Renamed first: half a removal must not look like a checkpoint. What cannot be removed now, the next save tries again,
    and then reports: the checkpoint just written is good, and no reason to stop."""
    if path.exists():
        grave = path.parent / f"{TEMPORARY_PREFIX}removed-{secrets.token_hex(4)}"
        path.rename(grave)
        shutil.rmtree(grave, ignore_errors=True)


def _clear_stale(folder: Path) -> None:
    for path in folder.glob(TEMPORARY_PREFIX + "*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _checkpoints(folder: Path) -> list[Path]:
    """What has the name of a checkpoint, oldest first; of one step the new one after the one that it replaces."""
    if not folder.is_dir():
        return []
    found = [(int(match[2]), match[1] == "step", path) for path in folder.iterdir() if (match := _NAME.match(path.name))]
    return [path for _, _, path in sorted(found)]


def _damage(path: Path, *, hashes: bool = True) -> str | None:
    """Why the checkpoint cannot be used; None if it can."""
    try:
        manifest = json.loads((path / _MANIFEST).read_bytes())
        if manifest["schema"] != SCHEMA:
            return f"{_MANIFEST} has schema {manifest['schema']!r}, this version of deattrib reads schema {SCHEMA}"
        if manifest["step"] != checkpoint_step(path):
            return f"{_MANIFEST} is of step {manifest['step']!r}"
        for name in (_STATE, _TENSORS):
            size, wanted = manifest["files"][name]["size"], manifest["files"][name]["sha256"]
            if (path / name).stat().st_size != size:
                return f"{name} has {(path / name).stat().st_size} bytes, expected {size}"
            if hashes:
                with open(path / name, "rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                        return f"{name} does not fit its SHA-256"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except OSError as error:
        return f"{Path(str(error.filename or path)).name} cannot be read ({error.strerror or error})"
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return f"{_MANIFEST} is damaged ({type(error).__name__}: {error})"
    return None
