"""What a scorer returned, as numbers: float32 on the CPU, detached, of the shape that was asked for, finite or masked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class UnusableError(Exception):
    """It cannot be used; the message says what came and what was expected, the guard adds who and where.

    Attributes:
        place: index of the first value at fault; None where it is the whole.
    """

    def __init__(self, message: str, place: list[int] | None = None) -> None:
        super().__init__(message)
        self.place = place


def as_numbers(returned: Any, shape: tuple[int, ...], mask: Tensor | None = None) -> Tensor:
    """A copy of `returned` as [*shape] float32 on the CPU; what lies outside of `mask` is 0. Raises UnusableError."""
    if returned is None:
        raise UnusableError("returned None: is a `return` missing? Expected one number per row")
    try:
        if isinstance(returned, list | tuple) and any(isinstance(item, Tensor) for item in returned):
            returned = torch.stack([torch.as_tensor(item) for item in returned])
        values = returned if isinstance(returned, Tensor) else torch.as_tensor(returned, device="cpu")
    except Exception as error:
        raise UnusableError(f"returned a {type(returned).__name__} that is not made of numbers: {error}") from error
    if values.is_complex():
        raise UnusableError(f"returned complex numbers ({values.dtype}), expected real ones")
    if values.requires_grad:
        raise UnusableError("returned a tensor with a gradient attached: return `scores.detach()`")
    if values.layout != torch.strided or values.is_meta or values.is_quantized:
        kind = "without values (device meta)" if values.is_meta else "quantised" if values.is_quantized else str(values.layout)
        raise UnusableError(f"returned a tensor that is {kind}, expected an ordinary dense one")
    # A copy: the scorer may go on using its own buffer.
    values = values.detach().to(device="cpu", dtype=torch.float32, copy=True)
    if tuple(values.shape) != shape:
        raise UnusableError(f"returned shape {list(values.shape)}, expected {list(shape)}")
    return values if mask is None else torch.where(mask, values, 0.0)  # what a scorer leaves at padding means nothing


def mask_nonfinite(values: Tensor, *, most: float | None, mask: Tensor | None = None) -> tuple[Tensor, int]:
    """NaN and infinities replaced by the median of the finite values, which pulls a response neither way.

    Args:
        values: [...] float32.
        most: largest share that may be replaced; None: nothing may.
        mask: which values count, where not all do.

    Returns:
        The values, and how many were replaced.

    Raises:
        UnusableError: more than that are not finite; `place` is the first one.
    """
    finite = torch.isfinite(values)
    bad = int((~finite).sum())
    if not bad:
        return values, 0
    counted = values if mask is None else values[mask]
    if most is None or bad > most * counted.numel():
        place = (~finite).nonzero()[0].tolist()
        column = f", column {place[1]}" if len(place) > 1 else ""
        count = f"{bad} of {counted.numel()} values are not finite as float32"
        allowed = "" if most is None else f", at most {most:.0%} are masked"
        raise UnusableError(f"returned {values[tuple(place)].item()} for row {place[0]}{column} ({count}{allowed})", place)
    return torch.where(finite, values, counted[torch.isfinite(counted)].median()), bad
