"""Advantages (Schulman et al. 2016, Generalized Advantage Estimation; paper, section 4.2). Pure functions.

With lambda = 1 the advantage is the paper's A_t = R_t - V(c_t), R_t = sum_j gamma^j r_{t+j}. Beside it the estimators that
need no value function, since several answers to the same prompt are each other's baseline.
"""

from __future__ import annotations

import torch
from torch import Tensor


def remaining_length(mask: Tensor) -> Tensor:
    """Tokens left at each position, itself included: [B, T] float32, at least 1 (also at padding)."""
    return mask.float().flip(1).cumsum(1).flip(1).clamp(min=1)


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 1.0, per_remaining: bool = False
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates over each row's tokens.

    Args:
        rewards, values: [B, T] float32. mask: [B, T] bool, true on a prefix of each row.
        per_remaining: returns and values are means over the remaining tokens instead of sums. A sum of rewards that are
            never above 0 is largest for the shortest answer; the mean is not, and its scale does not depend on T.

    Returns:
        (advantages, returns), [B, T] each, 0 at padding; returns are what the value function should predict.
    """
    left = remaining_length(mask) if per_remaining else torch.ones_like(rewards)
    worth = values * left * mask
    running = torch.zeros_like(rewards[:, 0])
    columns = []
    for t in reversed(range(rewards.shape[1])):
        following = worth[:, t + 1] if t + 1 < rewards.shape[1] else torch.zeros_like(running)
        delta = rewards[:, t] + gamma * following - worth[:, t]
        running = (delta + gamma * lam * running) * mask[:, t]
        columns.append(running)
    advantages = torch.stack(columns[::-1], 1) / left * mask
    return advantages, (advantages + values) * mask


def response_means(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over each row's true positions, 0 where there are none; what is at padding does not count: [B, T] -> [B]."""
    return torch.where(mask, values, torch.zeros_like(values)).sum(1) / mask.sum(1).clamp(min=1)


def leave_one_out(returns: Tensor, group: int) -> Tensor:
    """RLOO: the return minus the mean return of the other answers to its prompt (Ahmadian et al. 2024, section 3.2).

    Args:
        returns: [B] float32, the `group` answers to one prompt next to each other.
        group: answers per prompt, at least 2; B is a multiple of it.
    """
    grouped = returns.view(-1, group)
    return ((grouped - grouped.mean(1, keepdim=True)) * group / (group - 1)).view(-1)


def group_scaled(returns: Tensor, group: int) -> Tensor:
    """GRPO: the return as standard deviations from the mean of its prompt's answers (Shao et al. 2024, section 4.1.2).

    The arguments are those of `leave_one_out`. The deviation is the sample's (n - 1), and 1e-4 is added to it, as in trl and
    verl: where all answers are worth the same, all advantages are 0.
    """
    grouped = returns.view(-1, group)
    return ((grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-4)).view(-1)


def whiten(advantages: Tensor, mask: Tensor, *, floor: float) -> Tensor:
    """Zero mean and unit variance over the valid tokens; the standard deviation is at least `floor`.

    The floor keeps a batch in which nothing differs (all responses unattributed) from being blown up into noise.
    """
    count = mask.sum().clamp(min=1)
    mean = (advantages * mask).sum() / count
    variance = (((advantages - mean) ** 2) * mask).sum() / count
    return (advantages - mean) / variance.sqrt().clamp(min=floor) * mask
