"""What scorers keep of fitting: tensors by a hash of all they were made from, in the cache that processes and runs share."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deattrib.errors import ScorerError

if TYPE_CHECKING:
    from torch import Tensor

    from deattrib.attribution.context import ScorerContext

LARGEST = 4 * 2**30  # bytes that are kept at most
LITTLE = 16 * 2**20  # bytes that are always kept; what is more has to be worth its place:
WORTH = 10 * 2**20  # bytes for a second that making them took
LIBRARIES = ("deattrib", "torch", "transformers", "peft")


def kept(context: ScorerContext, kind: str, content: Any, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """As `ScorerContext.keep`."""
    if context.cache is None:
        return _plain(make())
    path = context.cache / "scorers" / f"{kind}-{_key(context, kind, content)}.safetensors"
    found = _read(path)
    if found is None:
        start = time.monotonic()
        found = _plain(make())
        size = sum(value.numel() * value.element_size() for value in found.values())
        if size <= min(LARGEST, max(LITTLE, WORTH * (time.monotonic() - start))):
            _write(path, found)
    return found


def _plain(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in values.items()}


def _key(context: ScorerContext, kind: str, content: Any) -> str:
    everything = {
        "content": content,
        "seed": context.seed,
        "codec": context.codec.fingerprint(),
        "device": context.device.type,
        "dtype": str(context.dtype),
        "versions": [version(name) for name in LIBRARIES],
    }
    try:
        text = json.dumps(everything, sort_keys=True)
    except TypeError as error:
        raise ScorerError(f"What {kind!r} keeps is found by its content, which must be plain values: {error}.") from error
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, Tensor] | None:
    """What is there; None for nothing, and for what cannot be read or was changed, which is made again."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
            stored = (file.metadata() or {}).get("digest")
    except (OSError, SafetensorError):
        return None
    return values if stored == _digest(values) else None


def _write(path: Path, values: dict[str, Tensor]) -> None:
    """Beside, then renamed: a reader sees the whole file or none. A cache that cannot be written costs a warning."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            staged = Path(folder) / path.name
            save_file(values, staged, {"digest": _digest(values)})
            staged.replace(path)
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:  # tensors that it cannot hold, too
        warnings.warn(
            f"What was fitted is not kept for another time: {path}: {error}. DEATTRIB_CACHE says where the cache is.",
            stacklevel=2,
        )


def _digest(values: Mapping[str, Tensor]) -> str:
    """So that what was changed on the disk is not believed."""
    import torch

    found = hashlib.sha256()
    for name in sorted(values):
        value = values[name]
        found.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        if value.numel():
            found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
