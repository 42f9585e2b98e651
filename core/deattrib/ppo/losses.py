"""The losses, as pure functions on tensors; every one is a mean over valid tokens in float32.

Where a batch is split, over processes, each part gives its sum divided by `tokens`, the valid tokens of the whole batch: the
parts' losses, and their gradients, add up to those of the batch.

Policy and value: PPO's clipped surrogates (Schulman et al. 2017). Distillation: paper, section 4.2, L_dis. The anchored
term is ours: it moves the likelihood of the owner's own text to the level it would have without the owner, and stops.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deattrib.models.wide import divergence, is_wide


def masked_mean(values: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
    """Mean over the true positions of `mask`; 0 where there are none.

    Args:
        tokens: what to divide by instead of the number of true positions: that of the whole batch.
    """
    return (values * mask).sum() / (mask.sum() if tokens is None else tokens).clamp(min=1)


def policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip: float,
    tokens: Tensor | None = None,
) -> Tensor:
    """-E_t min(s_t A_t, clip(s_t, 1 - eps, 1 + eps) A_t) with s_t = pi / pi_old. All [B, T] -> scalar."""
    ratio = (log_probs - old_log_probs).masked_fill(~mask, 0.0).exp()
    return masked_mean(-torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages), mask, tokens)


def value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    *,
    clip: float | None,
    tokens: Tensor | None = None,
) -> Tensor:
    """Half squared error of the value, the larger of the clipped and the unclipped one. All [B, T] -> scalar."""
    error = (values - returns) ** 2
    if clip is not None:
        near = old_values + (values - old_values).clamp(-clip, clip)
        error = torch.maximum(error, (near - returns) ** 2)
    return 0.5 * masked_mean(error, mask, tokens)


def distillation_loss(logits: Tensor, teacher_logits: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
    """E_t KL(pi_N(.|c_t) || pi(.|c_t)) over the vocabulary. logits [B, T, V], mask [B, T] -> scalar."""
    return masked_mean(token_kl(teacher_logits, logits), mask, tokens)


def token_kl(p_logits: Tensor, q_logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """KL(p || q) per position. [B, T, V] each -> [B, T] float32, at least 0 up to rounding.

    Where the logits are wide, p is taken for a constant.
    """
    if is_wide(q_logits):
        return divergence(p_logits, q_logits, temperature)
    if temperature != 1.0:
        p_logits, q_logits = p_logits / temperature, q_logits / temperature
    p = torch.log_softmax(p_logits.float(), -1)
    q = torch.log_softmax(q_logits.float(), -1)
    return (p.exp() * (p - q)).sum(-1)


def anchored_hinge(
    log_probs: Tensor, level: Tensor, mask: Tensor, weights: Tensor | None = None, tokens: Tensor | None = None
) -> Tensor:
    """E_t w_t relu(log pi(y_t|q, y_<t) - log pi_cf(y_t|q', y_<t)). All [B, T] -> scalar.

    The bracket is the log-likelihood ratio by which the text is attributed to its owner; at or below its counterfactual
    level the gradient is exactly zero, so unlike gradient ascent the term stops at "unattributed".
    """
    excess = torch.relu(log_probs - level.detach())
    return masked_mean(excess if weights is None else excess * weights.detach(), mask, tokens)
