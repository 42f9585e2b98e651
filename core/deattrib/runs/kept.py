"""Arrays that are kept in the cache, with a hash of themselves in their file: what was changed on the disk is not believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deattrib.runs.atomic import atomic_write_bytes

DIGEST = "digest"


def keep(path: Path, arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str] | None = None) -> None:
    """Write arrays and texts to a safetensors file; its folder is made. Raises RunError."""
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    texts = dict(texts or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, save(whole, {**texts, DIGEST: _digest(whole, texts)}))


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


def digest_of(entry: Mapping[str, Any]) -> str:
    """Of plain values."""
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
