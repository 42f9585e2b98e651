"""Directional derivatives of every token's log-probability, all rows in one pass, each along a direction of its own.

Forward-mode differentiation carries a tangent next to every activation. Here the parameters carry none: each layer that uses
a parameter adds to its output's tangent what the direction does there, V x for a linear layer. That is the exact derivative
(every such layer is affine in its parameters), and unlike `torch.func.jvp` on the parameters it lets row b move along v_b, so a
batch about twenty owners costs one pass. No weight is touched or copied. Where a kernel has no forward-mode formula, central
differences put the same V x, times a small step, onto the outputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from deattrib import ScorerError, TokenBatch, response_logits
from deattrib_scorers._directions import Directions
from deattrib_scorers._sites import Site, unscaled

Derivative = Literal["forward", "differences"]
STEP = {torch.float64: 1e-5, torch.float32: 1e-3}  # length of the difference, as a share of the parameters' norm


def token_derivatives(
    model: nn.Module,
    sites: Sequence[Site],
    batch: TokenBatch,
    directions: Directions,
    index: Tensor,
    derivative: Derivative = "forward",
) -> tuple[Tensor, Tensor]:
    """d/dh log p_{theta + h v}(y_t | q, y_<t) at h = 0, for every response token.

    Args:
        model: a causal LM in eval mode; not written to.
        sites: where the directions' parameters are used in it.
        batch: B rows on the model's device.
        index: [B] which direction each row moves along.
        derivative: "forward" (exact) or "differences" (two plain passes, any kernel; relative error about 1e-3 in float32).

    Returns:
        derivatives [B, T] and log-probabilities [B, T], both 0 at padding.

    Raises:
        ScorerError: a layer of the model has no forward-mode formula.
    """
    order = index.argsort(stable=True)  # rows of one direction side by side share its matrix product
    back = order.argsort()
    batch, index = batch.rows(order.to(batch.response_ids.device)), index[order]
    compute = _forward if derivative == "forward" else _differences
    with torch.no_grad():
        values, log_probs = compute(model, sites, batch, directions, index.to(batch.response_ids.device))
    mask = batch.response_mask
    values, log_probs = torch.where(mask, values, 0.0), torch.where(mask, log_probs, 0.0)
    back = back.to(values.device)
    return values[back], log_probs[back]


def _forward(
    model: nn.Module, sites: Sequence[Site], batch: TokenBatch, directions: Directions, index: Tensor
) -> tuple[Tensor, Tensor]:
    def add(output: Tensor, extra: Tensor) -> Tensor:
        primal, tangent = forward_ad.unpack_dual(output)
        dual: Tensor = forward_ad.make_dual(primal, extra if tangent is None else tangent + extra)
        return dual

    try:
        with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), _pushed(sites, directions, index, add):
            logits, tangent = forward_ad.unpack_dual(response_logits(model, batch)[0])
    except (NotImplementedError, RuntimeError) as error:
        if "forward" not in str(error):
            raise
        raise ScorerError(
            f"{type(model).__name__} has an operation without forward-mode derivative: {error} Set derivative: differences."
        ) from error
    if tangent is None:
        raise ScorerError("None of the selected parameters has an effect on the logits: check `layers`.")
    logits = logits if logits.dtype == torch.float64 else logits.float()
    log_probs = logits.log_softmax(-1)
    ids = batch.response_ids[:, :, None]
    # d log p(y) = dz[y] - sum_v p[v] dz[v]
    expected = torch.linalg.vecdot(log_probs.exp(), tangent.to(logits))
    return tangent.gather(2, ids).squeeze(2).to(logits) - expected, log_probs.gather(2, ids).squeeze(2)


def _differences(
    model: nn.Module, sites: Sequence[Site], batch: TokenBatch, directions: Directions, index: Tensor
) -> tuple[Tensor, Tensor]:
    dtype = next(model.parameters()).dtype
    norms = directions.norms().clamp(min=torch.finfo(torch.float32).tiny)[index]
    step = (STEP.get(dtype, 1e-2) * _norm(sites) / norms)[:, None, None]
    sides = []
    for sign in (1.0, -1.0):
        amount = sign * step

        def add(output: Tensor, extra: Tensor, amount: Tensor = amount) -> Tensor:
            return output + (amount.view(-1, *[1] * (output.dim() - 1)) * extra).to(output.dtype)

        with _pushed(sites, directions, index, add):
            logits = response_logits(model, batch)[0]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        sides.append(logits.log_softmax(-1).gather(2, batch.response_ids[:, :, None]).squeeze(2))
    return (sides[0] - sides[1]) / (2 * step[:, :, 0]), (sides[0] + sides[1]) / 2


def _norm(sites: Sequence[Site]) -> Tensor:
    parameters = {id(p): p.detach() for site in sites for p in site.module.parameters(recurse=False)}
    return torch.stack([parameter.float().square().sum() for parameter in parameters.values()]).sum().sqrt()


@contextlib.contextmanager
def _pushed(
    sites: Sequence[Site], directions: Directions, index: Tensor, add: Callable[[Tensor, Tensor], Tensor]
) -> Iterator[None]:
    """Inside, every site's output gets `add(output, what the row's direction does to it)`."""

    def push(site: Site) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            extra = _extra(site, directions, forward_ad.unpack_dual(inputs[0]).primal if forward else inputs[0], index)
            return output if extra is None else add(output, extra)

        return hook

    forward = forward_ad._current_level >= 0
    handles = [site.module.register_forward_hook(push(site)) for site in sites]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _extra(site: Site, directions: Directions, inputs: Tensor, index: Tensor) -> Tensor | None:
    """V x (+ b of the direction) for one site: [B, T, L]; None where the directions leave it out."""
    total: Tensor | None = None
    if site.weight in directions.matrices and site.weight is not None:
        matrix = directions.matrices[site.weight]
        total = matrix.rows(inputs, index) if site.kind == "embedding" else matrix.outputs(inputs, index)
    elif site.weight in directions.vectors and site.weight is not None:
        total = unscaled(site.module, inputs) * _spread(directions.vectors[site.weight][index], inputs)
    if site.bias in directions.vectors and site.bias is not None:
        bias = _spread(directions.vectors[site.bias][index], inputs)
        total = bias if total is None else total + bias
    return total


def _spread(vectors: Tensor, inputs: Tensor) -> Tensor:
    """[B, L] -> [B, 1, ..., L] with as many dimensions as the inputs have."""
    return vectors.view(len(vectors), *[1] * (inputs.dim() - 2), -1)
