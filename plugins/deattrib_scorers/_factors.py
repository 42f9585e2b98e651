"""Per-row gradients of log-likelihoods from one backward pass, never materialised for the whole model.

For a linear layer y = W x the gradient of row b is a sum over positions, sum_t G[b, t] x[b, t]^T, with G the gradient at the
layer's output. So the pair (G, x) *is* the gradient: it can be contracted, projected, summed over rows, or measured
(the "ghost" norm, Li et al. 2022, Large Language Models Can Be Strong Differentially Private Learners, section 4)
without forming it. An embedding is a linear layer on one-hot inputs. The backward pass goes to the layers' outputs only,
so no weight gradient is computed and nothing of the model is written to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from deattrib import ScorerError, TokenBatch, response_logits
from deattrib_scorers._sites import Site, unscaled


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One use of a matrix: row b's gradient is sum_t left[b, t] right[b, t]^T.

    left [B, T, L], or [B, T] int64 ids for one-hot vectors; right [B, T, R].
    """

    left: Tensor
    right: Tensor

    @property
    def one_hot(self) -> bool:
        return self.left.dim() == 2


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Per-row gradients of B rows.

    Attributes:
        pairs: by matrix name; [B, L] in `vectors` by vector name (biases, norms).
        positions: [B, P + T - 1] bool, the tokens that some response token is predicted from, no padding; a pair of fewer
            positions (the head) has the last of them. None: all.
    """

    rows: int
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    vectors: dict[str, Tensor] = field(default_factory=dict)
    positions: Tensor | None = None

    def norms(self) -> Tensor:
        """[B] Euclidean norms of the gradients."""
        total: Any = sum(value.square().sum(1) for value in self.vectors.values())
        for pairs in self.pairs.values():
            for one in pairs:
                for other in pairs:
                    total = total + (_products(one, other) * (one.right @ other.right.mT)).sum((1, 2))
        norms: Tensor = total.clamp(min=0).sqrt()
        return norms

    def dense(self, name: str, out: int) -> Tensor:
        """[B, L, R]: the per-row gradients of one matrix with L = `out`."""
        total: Tensor | None = None
        for pair in sorted(self.pairs[name], key=lambda pair: pair.one_hot):
            if not pair.one_hot:
                value = pair.left.mT @ pair.right
                total = value if total is None else total + value
            else:
                if total is None:
                    total = pair.right.new_zeros(self.rows, out, pair.right.shape[2])
                total.scatter_add_(1, pair.left[:, :, None].expand_as(pair.right), pair.right)
        assert total is not None
        return total

    def summed(self, name: str, out: int, row_weights: Tensor) -> Tensor:
        """[L, R]: the weighted sum over rows of the gradients of one matrix."""
        total: Tensor | None = None
        for pair in sorted(self.pairs[name], key=lambda pair: pair.one_hot):
            right = (pair.right * row_weights[:, None, None].to(pair.right)).flatten(0, 1)
            if not pair.one_hot:
                value = pair.left.flatten(0, 1).mT @ right
                total = value if total is None else total + value
            else:
                if total is None:
                    total = right.new_zeros(out, right.shape[1])
                total.index_add_(0, pair.left.flatten(), right)
        assert total is not None
        return total


def _products(one: Pair, other: Pair) -> Tensor:
    """[B, T, T']: inner products of the left sides."""
    if one.one_hot and other.one_hot:
        return (one.left[:, :, None] == other.left[:, None, :]).to(one.right)
    if one.one_hot:
        return _products(other, one).mT
    if other.one_hot:
        return one.left.gather(2, other.left[:, None, :].expand(-1, one.left.shape[1], -1))
    return one.left @ other.left.mT


def gradient_factors(
    model: nn.Module,
    sites: Sequence[Site],
    batch: TokenBatch,
    weigh: Callable[[Tensor], Tensor],
    *,
    draw: torch.Generator | None = None,
) -> tuple[Factors, Tensor]:
    """Gradients of sum_t w[b, t] log p(y_t | q, y_<t), row by row.

    Args:
        model: a causal LM in eval mode; not written to.
        sites: the parameters to differentiate with respect to.
        batch: B rows on the model's device.
        weigh: log-probabilities [B, T] (detached) -> weights [B, T]; padding is left out afterwards.
        draw: take the gradient at tokens drawn from the model's own distribution instead of the response's (as the Fisher
            matrix is defined); a CPU generator, which gives one number for every response token, row by row.

    Returns:
        the factors, and the log-probabilities [B, T], 0 at padding.
    """
    with torch.enable_grad(), _captured(sites) as taken:
        logits, _ = response_logits(model, batch)
    ids, mask = batch.response_ids[:, :, None], batch.response_mask
    with torch.no_grad():
        exact = logits.detach() if logits.dtype == torch.float64 else logits.detach().float()
        log_probs = exact.log_softmax(-1)
        if draw is not None:
            ids = _drawn(log_probs, mask, draw).to(ids)[:, :, None]
        chosen = torch.where(mask, log_probs.gather(2, ids).squeeze(2), 0.0)
        weights = torch.where(mask, weigh(chosen), 0.0).to(exact)[:, :, None]
        # d log p(y) / dz = 1[y] - p, by hand: autograd would keep and clear several tensors as wide as the vocabulary.
        slope = log_probs.exp_().mul_(-weights).scatter_add_(2, ids, weights)
    gradients = torch.autograd.grad(logits, [output for _, _, output in taken], slope.to(logits.dtype), allow_unused=True)
    factors = Factors(len(batch), positions=torch.cat([batch.prompt_mask, batch.response_mask[:, 1:]], 1))
    return _collect(factors, taken, gradients), chosen


def _drawn(log_probs: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    """One token from each distribution [B, T, V] where `mask` [B, T]: ids [B, T] int64, 0 elsewhere.

    By inverse distribution functions and one number a token, row by row: the same tokens however rows are batched.
    """
    ids = torch.zeros_like(mask, dtype=torch.int64)
    total = log_probs[mask].exp().cpu().double().cumsum(1)  # [tokens, V]
    uniform = torch.rand(len(total), 1, generator=generator, dtype=torch.float64)
    drawn = torch.searchsorted(total, uniform * total[:, -1:], right=True).squeeze(1).clamp(max=log_probs.shape[2] - 1)
    ids[mask] = drawn.to(ids)
    return ids


Taken = list[tuple[Site, Tensor, Tensor]]


@contextlib.contextmanager
def _captured(sites: Sequence[Site]) -> Iterator[Taken]:
    """Inputs and outputs of the sites while a forward pass runs inside."""
    taken: Taken = []

    def remember(site: Site) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            if not output.requires_grad:  # the graph begins here: parameters are frozen
                output = output.detach().requires_grad_()
            taken.append((site, inputs[0].detach(), output))
            return output

        return hook

    handles = [site.module.register_forward_hook(remember(site)) for site in sites]
    try:
        yield taken
    finally:
        for handle in handles:
            handle.remove()


def _collect(factors: Factors, taken: Taken, gradients: Sequence[Tensor | None]) -> Factors:
    rows = factors.rows
    for (site, inputs, _), gradient in zip(taken, gradients, strict=True):
        if gradient is None:
            continue
        if (gradient.dim() != 3 and site.kind != "norm") or gradient.shape[0] not in (1, rows):
            raise ScorerError(
                f"{type(site.module).__name__} {site.weight or site.bias!r} gives {list(gradient.shape)} for {rows} rows: "
                "gradients need [rows, tokens, width]. Leave the layer out with `layers`."
            )
        if gradient.shape[0] != rows:  # positions that are the same for all rows are looked up once
            raise ScorerError(f"{site.weight!r} is used once for {rows} rows, so its gradient has no rows. Leave it out.")
        _add(factors, site, inputs, gradient)
    return factors


def _add(factors: Factors, site: Site, inputs: Tensor, gradient: Tensor) -> None:
    if site.bias is not None:
        factors.vectors[site.bias] = factors.vectors.get(site.bias, 0) + gradient.flatten(1, -2).sum(1)
    if site.weight is None:
        return
    if site.kind == "norm":
        value = (gradient * unscaled(site.module, inputs)).flatten(1, -2).sum(1)  # a norm may be over heads: [B, T, heads, D]
        factors.vectors[site.weight] = factors.vectors.get(site.weight, 0) + value
    else:
        pair = Pair(inputs, gradient) if site.kind == "embedding" else Pair(gradient, inputs)
        factors.pairs.setdefault(site.weight, []).append(pair)
