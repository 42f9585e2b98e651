"""From attribution to one reward per token (paper, section 4.2.1 and appendix D).

All functions are pure. Attribution comes in [0, 1]; base rewards go out bounded, because every unbounded shape that
was tried was hacked within a hundred steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deattrib.ppo.settings import RewardSettings

LOG_ODDS_BOUND = 1.5


def slice_ends(lengths: Tensor, settings: RewardSettings) -> Tensor:
    """Where to cut each response.

    The paper cuts T tokens into slices of kappa = ceil(T / k). With the ceiling the number of slices is not always k
    (T = 24, k = 15 gives 12): ends are clamped to T, and the columns after the last slice repeat T.

    Args:
        lengths: [B] int64, T of each response.

    Returns:
        [B, k] int64 token counts, non-decreasing, the last one T.
    """
    longest = int(lengths.max()) if lengths.numel() else 0
    if settings.granularity == "sequence":
        return lengths[:, None].clone()
    count = longest if settings.granularity == "tokens" else settings.slices
    steps = torch.arange(1, max(count, 1) + 1, device=lengths.device)
    return (steps * slice_width(lengths, settings)[:, None]).minimum(lengths[:, None])


def slice_width(lengths: Tensor, settings: RewardSettings) -> Tensor:
    """kappa of each response: [B] int64, at least 1."""
    if settings.granularity == "tokens":
        return torch.ones_like(lengths)
    if settings.granularity == "sequence":
        return lengths.clamp(min=1)
    return ((lengths + settings.slices - 1) // settings.slices).clamp(min=1)


def shape_reward(attribution: Tensor, settings: RewardSettings, *, chance: float) -> Tensor:
    """Reward of an attribution, elementwise; higher attribution never gives more.

    chi: clip(ln(1 - clip(b, eps, 1 - eps)) / C_seg, -1, 0), in [-1, 0], saturated from b of about 0.65 on (paper).
    hinge: -max(0, b - c) / (1 - c), in [-1, 0]: nothing is gained below chance. inverse: 1 - b, in [0, 1].
    log-odds: ln((1 - b) / b), bounded to +-1.5.
    """
    if settings.shape == "chi":
        bounded = attribution.clamp(settings.epsilon, 1 - settings.epsilon)
        return (torch.log1p(-bounded) / settings.c_seg).clamp(-1, 0)
    if settings.shape == "hinge":
        return -(attribution - chance).clamp(min=0) / (1 - chance)
    if settings.shape == "inverse":
        return 1 - attribution
    bounded = attribution.clamp(settings.epsilon, 1 - settings.epsilon)
    return (torch.log1p(-bounded) - bounded.log()).clamp(-LOG_ODDS_BOUND, LOG_ODDS_BOUND)


def token_rewards(
    attribution: Tensor, lengths: Tensor, empty: Tensor, settings: RewardSettings, *, chance: float = 0.0
) -> Tensor:
    """The base reward of every token, before the KL penalty.

    r_t = 1/(t+1) * sum over t' = 1..t+1 of chi(DA(i, y[: ceil(t' / kappa) * kappa])).

    Args:
        attribution: [B, k] in [0, 1] at the ends that `slice_ends` gave.
        lengths: [B] tokens per response.
        empty: [B] bool, responses without any text: every token gets -1 (log-odds: its lower bound), so that silence is
            never the way out.

    Returns:
        [B, max T] float32, 0 beyond each response's length.
    """
    width = max(int(lengths.max()), 1) if lengths.numel() else 1
    position = torch.arange(width, device=lengths.device).expand(len(lengths), width)
    mask = position < lengths[:, None]
    shaped = shape_reward(attribution.float(), settings, chance=chance)
    if settings.granularity == "sequence":
        rewards = torch.where(position == lengths[:, None] - 1, shaped, torch.zeros((), device=shaped.device))
    else:
        index = (position // slice_width(lengths, settings)[:, None]).clamp(max=shaped.shape[1] - 1)
        rewards = shaped.gather(1, index)
        if settings.cumulative_mean:
            rewards = (rewards * mask).cumsum(1) / (position + 1)
    worst = -LOG_ODDS_BOUND if settings.shape == "log-odds" else -1.0
    rewards = torch.where(empty[:, None], torch.full((), worst, device=rewards.device), rewards)
    return rewards * mask


def kl_penalty(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """k1: log pi(y_t) - log pi_ref(y_t), unbiased for KL(pi || pi_ref) when y was sampled from pi. [B, T]."""
    return log_probs - reference_log_probs
