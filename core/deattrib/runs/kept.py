"""Arrays that are kept in the cache, with a hash of themselves in their file: what was changed on the disk is not believed."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deattrib.errors import RunError
from deattrib.runs.atomic import atomic_write_bytes

DIGEST = "digest"


def keep(path: Path, arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str] | None = None) -> None:
    """Write arrays and texts to a safetensors file of the cache, if it can be written (`written_if_possible`)."""
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    texts = dict(texts or {})
    content = save(whole, {**texts, DIGEST: _digest(whole, texts)})
    written_if_possible(path, lambda: atomic_write_bytes(path, content))


def written_if_possible(path: Path, write: Callable[[], None]) -> None:
    """A file of the cache, its folder made; a warning where that fails: what was computed is worth more than its copy."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write()
    except (OSError, RunError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        reason = cause.strerror or cause
        warnings.warn(
            f"Not kept for another time: {path}: {reason}. The run goes on; DEATTRIB_CACHE says where the cache is.",
            stacklevel=3,
        )


def kept(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]] | None:
    """The arrays and texts; None where they are not there, cannot be read, or are not those that were written."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            texts = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (OSError, SafetensorError, ValueError, TypeError):
        return None
    return (arrays, texts) if texts.pop(DIGEST, None) == _digest(arrays, texts) else None


def _digest(arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str]) -> str:
    found = hashlib.sha256(json.dumps(texts, sort_keys=True).encode())
    for name in sorted(arrays):
        values = arrays[name]
        found.update(json.dumps([name, str(values.dtype), list(values.shape)]).encode())
        found.update(values.tobytes())
    return found.hexdigest()
