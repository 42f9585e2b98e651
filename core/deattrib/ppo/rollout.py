"""Rollout: the policy answers forget prompts, the answers are attributed, and attribution becomes advantages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Example
from deattrib.models.batch import TokenBatch
from deattrib.models.forward import autocast, gather_log_probs
from deattrib.models.policy import Policy, PolicyOutput
from deattrib.models.ranks import ALONE, ProcessGroup
from deattrib.models.threads import is_small
from deattrib.models.wide import entropy_of
from deattrib.ppo import advantages as adv
from deattrib.ppo.losses import masked_mean, token_kl
from deattrib.ppo.reference import Reference
from deattrib.ppo.reward import kl_penalty, slice_ends, token_rewards
from deattrib.ppo.settings import PPOSettings


class AttributionSource(Protocol):
    """Where attribution comes from; `deattrib.Attributor` is one."""

    @property
    def chance(self) -> float:
        """Attribution of a response that has nothing of its owner."""

    def attribution(self, rows: Rows, ends: Tensor | None = None) -> Tensor:
        """Attribution in [0, 1]: [B], or [B, k] for the prefixes `ends`."""


class Seen:
    """What the policy said of the rollout, differentiable, for whoever asks first: after an update it is out of date.

    The first update on a whole batch would compute the very same again.
    """

    def __init__(self, output: PolicyOutput) -> None:
        self._output: PolicyOutput | None = output

    def take(self) -> PolicyOutput | None:
        """The output, once."""
        output, self._output = self._output, None
        return output


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """One batch of experience. Tensors are [B, T] float32 and 0 at padding unless said otherwise."""

    batch: TokenBatch
    mask: Tensor  # bool
    log_probs: Tensor  # of pi_old, the policy that the ratio is taken against
    values: Tensor
    rewards: Tensor
    advantages: Tensor
    returns: Tensor
    attribution: Tensor  # [B], whole responses
    empty: Tensor  # [B] bool
    tokens: Tensor | None = None  # valid tokens of the batch that this is a process' part of; None: it is the batch
    seen: Seen | None = None

    def rows(self, index: Tensor, processes: ProcessGroup = ALONE) -> Rollout:
        """One minibatch, or this process' part of it."""
        own = index[processes.own(len(index))] if processes.size > 1 else index
        names = [item.name for item in fields(self) if item.name not in ("batch", "tokens", "seen")]
        tokens = self.mask[index].sum() if processes.size > 1 else None
        seen = self.seen if len(own) == len(self.batch) else None
        return Rollout(self.batch.rows(own), **{name: getattr(self, name)[own] for name in names}, tokens=tokens, seen=seen)


@torch.no_grad()
def collect(
    policy: Policy,
    examples: Sequence[Example],
    source: AttributionSource,
    reference: Reference,
    settings: PPOSettings,
    *,
    generator: torch.Generator,
    others: Sequence[str],
    processes: ProcessGroup = ALONE,
) -> tuple[Rollout, dict[str, float]]:
    """Sample one response per example and turn attribution into advantages.

    With `refresh: batch` the responses come from the policy itself, and log-probabilities are computed by the very
    forward that the update uses, so the first minibatch's ratio is exactly 1. With `refresh: epoch` (the paper) they
    come from the remembered old policy, and so do the log-probabilities. `others` is what `reference` drew for the
    examples' owners.

    Each of the `processes` asks the models and the scorer about its own rows; what they say is joined: all hold the whole.
    """
    asked = [example.prompt for example in examples]
    batch, whole = _sampled(policy, asked, settings, generator, processes)
    prompts, owners = processes.mine(asked), [example.owner for example in processes.mine(examples)]
    others = processes.mine(others)
    rows = Rows.from_tokens(policy.codec, prompts, batch.to("cpu"), owners)
    again = processes.size == 1 and keeps_graph(policy, settings)
    with autocast(policy.device, settings.bf16), torch.set_grad_enabled(again):
        output = policy(batch, with_values=settings.estimator == "gae")
    current = gather_log_probs(output.logits, batch.response_ids, temperature=settings.temperature)
    log_probs = _old_log_probs(policy, batch, settings) if settings.refresh == "epoch" else current
    mask, lengths = whole.response_mask, whole.response_lengths
    ends = slice_ends(lengths, settings.reward)[processes.own(len(whole))].cpu()
    attribution = torch.cat(processes.together(lambda: source.attribution(rows, ends))).to(policy.device)
    responses = [text for part in processes.gather(rows.responses) for text in part]
    empty = torch.tensor([not text for text in responses], device=policy.device)
    base = token_rewards(attribution, lengths, empty, settings.reward, chance=chance_level(source, settings))
    with autocast(policy.device, settings.bf16):
        penalty = _penalty(reference, settings, prompts, owners, batch, output.logits, current, others)
    log_probs, values, penalty, entropy = map(processes.joined, (log_probs, output.values, penalty, entropy_of(output.logits)))
    rewards = (base - settings.reward.kl * penalty) * mask
    values = values * mask
    if settings.estimator == "gae":
        advantages, returns = per_token(rewards, values, mask, settings)
    else:
        advantages, returns = per_response(base, settings.reward.kl * penalty, mask, settings)
    if settings.whiten:
        advantages = adv.whiten(advantages, mask, floor=settings.whiten_floor)
    last = attribution[:, -1]
    figures = {
        "reward": float(masked_mean(base, mask)),
        "attribution": float(last.mean()),
        "kl": float(masked_mean(penalty, mask)),
        "entropy": float(masked_mean(entropy, mask)),
        "length": float(lengths.float().mean()),
        "empty": float(empty.float().mean()),
        "distinct": len(set(responses)) / len(responses),
    }
    seen = Seen(output) if again else None
    rollout = Rollout(whole, mask, log_probs * mask, values, rewards, advantages, returns, last, empty, seen=seen)
    return rollout, figures


def per_token(rewards: Tensor, values: Tensor, mask: Tensor, settings: PPOSettings) -> tuple[Tensor, Tensor]:
    """(advantages, returns), [B, T] each: of every token, against the value function."""
    mean = settings.reward.normalise == "remaining"
    return adv.gae(rewards, values, mask, gamma=settings.gamma, lam=settings.gae_lambda, per_remaining=mean)


def per_response(base: Tensor, penalty: Tensor, mask: Tensor, settings: PPOSettings) -> tuple[Tensor, Tensor]:
    """(advantages, returns), [B, T] each and the same at all tokens of a response: it is compared with those next to it.

    A response is worth its score (`granularity: sequence`) or the mean reward of its tokens, less the KL penalty per token
    (`normalise: remaining`) or that of all tokens (`sum`).
    """
    last = (mask.sum(1) - 1).clamp(min=0)[:, None]
    score = base.gather(1, last)[:, 0] if settings.reward.granularity == "sequence" else adv.response_means(base, mask)
    less = adv.response_means(penalty, mask) if settings.reward.normalise == "remaining" else (penalty * mask).sum(1)
    kind = adv.leave_one_out if settings.estimator == "rloo" else adv.group_scaled
    advantages = kind(score - less, settings.rollout.samples)
    return advantages[:, None] * mask, (score - less)[:, None] * mask


def keeps_graph(policy: Policy, settings: PPOSettings) -> bool:
    """Whether the first update takes over the rollout's own forward pass.

    It must be of the whole batch and of the policy that sampled. A large model's activations are not kept meanwhile: the
    other terms of the loss need the memory.
    """
    return settings.minibatch_size >= settings.batch_size and is_small(policy)


def _sampled(
    policy: Policy, prompts: Sequence[str], settings: PPOSettings, generator: torch.Generator, processes: ProcessGroup
) -> tuple[TokenBatch, TokenBatch]:
    """The rows that this process has sampled, and the whole batch; both have as many columns."""
    batch = policy.sample(
        prompts,
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        generator=generator,
        old=settings.refresh == "epoch",
        how=settings.rollout,
        processes=processes,
    )
    if processes.size == 1:
        return batch, batch
    asked = policy.codec.encode(prompts, [""] * len(prompts), end=False).to(policy.device)
    responses, lengths = processes.joined(batch.response_ids), processes.joined(batch.response_lengths)
    return batch, TokenBatch(asked.prompt_ids, asked.prompt_lengths, responses, lengths)


def chance_level(source: AttributionSource, settings: PPOSettings) -> float:
    return source.chance if settings.reward.chance == "auto" else float(settings.reward.chance)


def _old_log_probs(policy: Policy, batch: TokenBatch, settings: PPOSettings) -> Tensor:
    """Of the remembered policy: [B, T]."""
    with autocast(policy.device, settings.bf16):  # as in the update, or the ratio would not start at 1
        old = policy.old_logits(batch)
    return gather_log_probs(old, batch.response_ids, temperature=settings.temperature)


def _penalty(
    reference: Reference,
    settings: PPOSettings,
    prompts: Sequence[str],
    owners: Sequence[str],
    batch: TokenBatch,
    logits: Tensor,
    log_probs: Tensor,
    others: Sequence[str],
) -> Tensor:
    """KL towards the reference per token: [B, T], 0 at padding."""
    if reference.name == "none" or settings.reward.kl == 0:
        return torch.zeros_like(log_probs)
    other = reference.logits(prompts, owners, batch, others)
    if settings.reward.kl_estimator == "full":
        return token_kl(logits, other, temperature=settings.temperature) * batch.response_mask
    other_log_probs = gather_log_probs(other, batch.response_ids, temperature=settings.temperature)
    return kl_penalty(log_probs, other_log_probs) * batch.response_mask
