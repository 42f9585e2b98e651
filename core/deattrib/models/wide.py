"""Numbers of a vocabulary's width, made in float32 a piece at a time and made again for the backward pass.

For a vocabulary of 50,000 and more, a float32 copy of the logits is what a batch takes most memory for, and autograd would keep
several: the tempered logits, their log-softmax, its gradient. Here only the logits stay, in the dtype that the model gave
them, and one number per token. Below `AT_ONCE` torch's own operations are used, to the same bits as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

AT_ONCE = 64 * 2**20  # bytes of float32 numbers of a vocabulary's width that are made at once


def is_wide(logits: Tensor) -> bool:
    """Whether [..., V] numbers are taken in pieces."""
    return logits.numel() * 4 > AT_ONCE


def pieces(rows: int, width: int) -> Iterator[slice]:
    """Slices of `rows` rows of `width` float32 numbers each, at most AT_ONCE bytes long."""
    step = max(AT_ONCE // (4 * width), 1)
    return (slice(start, start + step) for start in range(0, rows, step))


def log_probs_of(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """log softmax(logits / temperature)[ids] in float32. [..., V], [...] -> [...]; gradients reach the logits."""
    flat = logits.reshape(-1, logits.shape[-1])
    values: Tensor = _LogProbs.apply(flat, ids.reshape(-1), temperature)  # type: ignore[no-untyped-call]
    return values.view(ids.shape)


def divergence(p_logits: Tensor, q_logits: Tensor, temperature: float) -> Tensor:
    """KL(p || q) per position in float32. [..., V] each -> [...]; gradients reach q's logits, p is a constant."""
    width = q_logits.shape[-1]
    p = p_logits.detach().reshape(-1, width)
    values: Tensor = _Divergence.apply(p, q_logits.reshape(-1, width), temperature)  # type: ignore[no-untyped-call]
    return values.view(q_logits.shape[:-1])


@torch.no_grad()
def entropy_of(logits: Tensor) -> Tensor:
    """Entropy of softmax(logits) in nats, float32, without a gradient. [..., V] -> [...]"""
    flat = logits.reshape(-1, logits.shape[-1])
    found = [_entropy(flat[piece]) for piece in pieces(*flat.shape)] if is_wide(logits) else [_entropy(flat)]
    return torch.cat(found).view(logits.shape[:-1])


def _entropy(logits: Tensor) -> Tensor:
    spread = torch.log_softmax(logits.float(), -1)
    return -(spread.exp() * spread).sum(-1)


class _LogProbs(torch.autograd.Function):
    """d log p(y) / d logits = (1[y] - p) / temperature."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
        norms = torch.empty(len(ids), dtype=torch.float32, device=logits.device)
        values = torch.empty_like(norms)
        for piece in pieces(*logits.shape):
            scaled = logits[piece].float() / temperature
            norms[piece] = scaled.logsumexp(-1)
            values[piece] = scaled.gather(-1, ids[piece, None]).squeeze(-1) - norms[piece]
        ctx.save_for_backward(logits, ids, norms)
        ctx.temperature = temperature
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        logits, ids, norms = ctx.saved_tensors
        result = torch.empty_like(logits)
        scale = gradient[:, None] / ctx.temperature
        for piece in pieces(*logits.shape):
            p = (logits[piece].float() / ctx.temperature).sub_(norms[piece, None]).exp_()
            result[piece] = p.mul_(-scale[piece]).scatter_add_(-1, ids[piece, None], scale[piece])
        return result, None, None


class _Divergence(torch.autograd.Function):
    """d KL(p || q) / d q's logits = (q - p) / temperature."""

    @staticmethod
    def forward(ctx: Any, p_logits: Tensor, q_logits: Tensor, temperature: float) -> Tensor:
        values = torch.empty(len(q_logits), dtype=torch.float32, device=q_logits.device)
        for piece in pieces(*q_logits.shape):
            p = torch.log_softmax(p_logits[piece].float() / temperature, -1)
            q = torch.log_softmax(q_logits[piece].float() / temperature, -1)
            values[piece] = (p.exp() * (p - q)).sum(-1)
        ctx.save_for_backward(p_logits, q_logits)
        ctx.temperature = temperature
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        p_logits, q_logits = ctx.saved_tensors
        result = torch.empty_like(q_logits)
        for piece in pieces(*q_logits.shape):
            p = torch.softmax(p_logits[piece].float() / ctx.temperature, -1)
            q = torch.softmax(q_logits[piece].float() / ctx.temperature, -1)
            result[piece] = q.sub_(p).mul_(gradient[piece, None] / ctx.temperature)
        return None, result, None
