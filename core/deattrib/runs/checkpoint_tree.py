"""A training state as JSON plus named tensors, and back: what replaces pickle in a checkpoint.

A state is nested dicts (keys: text or integers, as in an optimiser's `state_dict`) and lists of numbers, text, booleans,
None and tensors. Each tensor leaves a reference `{"$tensor": name}` in the JSON, its name being its path, keys joined by "/".
Three things JSON cannot say are spelled out, each so that no key or value of a caller can be mistaken for it:

- an integer key 3 is "int:3"; a text key that begins with "int:", "str:" or "$" (or that safetensors keeps for itself)
  gets "str:" in front, and so no caller's dict can look like a reference;
- NaN and the infinities are `{"$float": "nan"}`;
- in tensor names "~" is "~0", "/" is "~1" (as in JSON pointers, RFC 6901) and half a surrogate pair is "~u" and its code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deattrib.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

# What every version of safetensors stores as it is; other types go as bytes with type and shape beside them.
_NATIVE = frozenset({"float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"})
_UNSAFE_IN_NAMES = re.compile("[~/\ud800-\udfff]")


def encode(state: Mapping[Any, Any]) -> tuple[Any, dict[str, Tensor]]:
    """Splits `state` into a JSON value and its tensors.

    Tensors come out detached, dense, contiguous, on the CPU, none sharing memory with another. One tensor met twice (tied
    weights) is stored once, and `decode` gives one tensor twice. Tuples become lists; `requires_grad` is not kept.

    Raises:
        RunError: something has no such form (bytes, arrays, objects, sparse or quantised tensors); has its path.
    """
    encoder = _Encoder()
    try:
        return encoder.value(state, ()), encoder.tensors
    except RecursionError as error:
        raise RunError("The state to be saved contains itself, or is nested too deep.") from error


def decode(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The state that `encode` split. Raises RunError where tree and tensors do not fit together."""
    if isinstance(tree, list):
        return [decode(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "$float" in tree:
        return float(tree["$float"])
    if "$tensor" in tree:
        return _decode_tensor(tree, tensors)
    return {_decode_key(key): decode(item, tensors) for key, item in tree.items()}


class _Encoder:
    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._seen: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._storages: set[tuple[Any, int]] = set()
        self._alive: list[Tensor] = []  # addresses tell tensors apart only as long as none is freed

    def value(self, value: object, path: tuple[str, ...]) -> Any:
        import torch

        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str(value)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"$float": str(float(value))}
        if isinstance(value, torch.Tensor):
            return self._tensor(value, path)
        if isinstance(value, Mapping):
            keys = [_encode_key(key, path) for key in value]
            return {key: self.value(item, (*path, key)) for key, item in zip(keys, value.values(), strict=True)}
        if isinstance(value, (list, tuple)):
            return [self.value(item, (*path, str(index))) for index, item in enumerate(value)]
        raise RunError(
            f"A checkpoint cannot hold {_where(path)}, a {type(value).__name__}; expected numbers, text, None, lists, dicts or "
            "torch tensors."
        )

    def _tensor(self, tensor: Tensor, path: tuple[str, ...]) -> dict[str, Any]:
        import torch

        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            kind = "meta" if tensor.is_meta else "quantised" if tensor.is_quantized else str(tensor.layout)
            raise RunError(f"A checkpoint cannot hold {_where(path)}, a {kind} tensor; make it dense first.")
        self._alive.append(tensor)
        storage = (tensor.device, tensor.untyped_storage().data_ptr())
        same = (
            *storage,
            tensor.storage_offset(),
            tensor.shape,
            tensor.stride(),
            tensor.dtype,
            tensor.is_conj(),
            tensor.is_neg(),
        )
        if tensor.numel() and same in self._seen:
            return self._seen[same]
        dense = tensor.detach().resolve_conj().resolve_neg().to("cpu").contiguous()
        dtype, shape = str(dense.dtype).removeprefix("torch."), list(dense.shape)
        name = "/".join(_UNSAFE_IN_NAMES.sub(_escape, part) for part in path)
        reference: dict[str, Any] = {"$tensor": name}
        if dtype not in _NATIVE:
            dense = dense.reshape(-1).view(torch.uint8)
            reference |= {"dtype": dtype, "shape": shape}
        kept = (dense.device, dense.untyped_storage().data_ptr())
        if kept in self._storages or dense.untyped_storage().nbytes() != dense.numel() * dense.element_size():
            dense = dense.clone()  # a view: its own memory, and no more than its own
            kept = (dense.device, dense.untyped_storage().data_ptr())
        self._storages.add(kept)
        self.tensors[name] = dense
        self._seen[same] = reference
        return reference


def _decode_tensor(reference: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Tensor:
    import torch

    name = reference["$tensor"]
    if name not in tensors:
        raise RunError(f"The checkpoint refers to a tensor {name!r} that it does not have.")
    if "dtype" not in reference:
        return tensors[name]
    dtype = getattr(torch, str(reference["dtype"]), None)
    if not isinstance(dtype, torch.dtype):
        raise RunError(
            f"The checkpoint has a tensor of type {reference['dtype']!r}, which this version of torch does not know."
        )
    return tensors[name].view(dtype).reshape(reference["shape"])


def _encode_key(key: object, path: tuple[str, ...]) -> str:
    if isinstance(key, str):
        return f"str:{key}" if key.startswith(("int:", "str:", "$")) or key == "__metadata__" else str(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return f"int:{int(key)}"
    raise RunError(f"A checkpoint cannot hold the key {key!r} in {_where(path)}; expected text or an integer.")


def _decode_key(key: str) -> str | int:
    if key.startswith("int:"):
        return int(key[4:])
    return key.removeprefix("str:")


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return {"~": "~0", "/": "~1"}.get(character, f"~u{ord(character):04x}")


def _where(path: tuple[str, ...]) -> str:
    return repr("/".join(path)) if path else "its root"
