"""One update: the gradient of every term of the loss, summed, clipped, and applied only where it is a number.

Each term has a graph of its own, so no two are in memory at once; they are added in the order in which one backward pass
would add them. A gradient that is not finite (an overflow in bfloat16, a likelihood of 0) would destroy the weights and
AdamW's moments for good: it is dropped, and the step says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from deattrib.models.forward import autocast
from deattrib.models.ranks import ALONE, ProcessGroup
from deattrib.models.sharding import whole

Term = Callable[[], tuple[Tensor, dict[str, float]]]  # part of the loss, and its figures
LARGEST = frozenset({"ratio_error"})  # figures that are a maximum over tokens; all others are means
Gradient = tuple[Tensor, Sequence[Tensor | None], dict[str, float]]  # the part's value, its gradient per parameter, its figures


def gradient(
    term: Term, parameters: Sequence[nn.Parameter], *, device: torch.device, bf16: bool, spread: bool = False
) -> Gradient:
    """Value, gradient and figures of one term; of weights that are spread over processes the gradient is added to `grad`."""
    with autocast(device, bf16):
        loss, figures = term()
    if spread:  # what the graph has are whole weights, of which only a backward pass makes a gradient for each part
        loss.backward()
        return loss.detach(), [None] * len(parameters), figures
    return loss.detach(), torch.autograd.grad(loss, list(parameters), allow_unused=True), figures


def accumulate(
    gradients: Iterable[Gradient], parameters: Sequence[nn.Parameter], *, device: torch.device, processes: ProcessGroup = ALONE
) -> dict[str, float]:
    """Put the sum of the gradients, over all processes, into the parameters; the figures of all terms, and "loss" in all."""
    losses: list[Tensor] = []
    told: list[dict[str, float]] = []
    for loss, values, figures in gradients:  # in the order in which one backward pass would add them
        losses.append(loss)
        told.append(figures)
        for parameter, value in zip(parameters, values, strict=True):
            if value is not None:
                # Where one number stands for a whole gradient (of a sum), nothing could be added to it.
                value = value.clone() if 0 in value.stride() else value
                parameter.grad = value if parameter.grad is None else parameter.grad.add_(value)
    total = sum(reversed(losses), torch.zeros((), device=device))
    summed: dict[str, float] = {}
    for one in reversed(told):
        for name, figure in one.items():
            summed[name] = summed.get(name, 0.0) + figure  # a term in parts gives its figure in parts, too
    summed["loss"] = float(total)
    processes.add_up(parameters)
    return processes.figures(summed, largest=LARGEST)


def clip(parameters: Sequence[nn.Parameter], most: float) -> tuple[dict[str, float], bool]:
    """Clip the gradients to a global norm.

    Returns:
        the figure "grad_norm" before clipping, and whether the gradients may be applied; where they may not, they are gone and
        there is no figure.
    """
    norm = float(whole(torch.nn.utils.clip_grad_norm_(parameters, most)))
    if math.isfinite(norm):
        return {"grad_norm": norm}, True
    for parameter in parameters:
        parameter.grad = None
    return {}, False


def means(figures: Iterable[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over the updates that have it."""
    totals: dict[str, list[float]] = {}
    for one in figures:
        for name, value in one.items():
            totals.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in totals.items()}
