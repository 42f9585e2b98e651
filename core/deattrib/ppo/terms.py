"""PPO's own part of the loss on one minibatch of a rollout: clipped surrogate and value loss, with their figures."""

from __future__ import annotations

import torch
from torch import Tensor

from deattrib.models.forward import gather_log_probs
from deattrib.models.policy import Policy
from deattrib.ppo.losses import masked_mean, policy_loss, value_loss
from deattrib.ppo.rollout import Rollout
from deattrib.ppo.settings import PPOSettings


def ppo_term(policy: Policy, part: Rollout, settings: PPOSettings) -> tuple[Tensor, dict[str, float]]:
    """The weighted loss, a scalar, and how far the policy is from the one that the responses were sampled from."""
    valued = settings.estimator == "gae"
    output = (part.seen.take() if part.seen is not None else None) or policy(part.batch, with_values=valued)
    log_probs = gather_log_probs(output.logits, part.batch.response_ids, temperature=settings.temperature)
    tokens = part.tokens
    surrogate = policy_loss(log_probs, part.log_probs, part.advantages, part.mask, clip=settings.clip, tokens=tokens)
    loss = surrogate
    with torch.no_grad():
        drift = (log_probs - part.log_probs).masked_fill(~part.mask, 0.0)
        ratio = drift.exp()
        figures = {
            "policy_loss": float(surrogate),
            "policy_kl": float(masked_mean(ratio - 1 - drift, part.mask, tokens)),  # k3
            "clip_fraction": float(masked_mean(((ratio - 1).abs() > settings.clip).float(), part.mask, tokens)),
            "ratio_error": float((drift.abs() * part.mask).max()),
        }
    if valued:
        value = value_loss(output.values, part.values, part.returns, part.mask, clip=settings.value_clip, tokens=tokens)
        figures["value_loss"] = float(value.detach())
        loss = surrogate + settings.value_coefficient * value
    return settings.policy_weight * loss, figures
