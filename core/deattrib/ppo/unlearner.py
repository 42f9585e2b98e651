"""The loop: an iterator of steps that can be stopped, saved and continued to the very same numbers.

One step is one rollout batch (paper, Algorithm 1, lines 13-20): sample answers to forget prompts, attribute them, turn
attribution into advantages, and update the policy a few times on PPO's loss, the distillation to the original model
on retain rows, and the anchored term on the forget rows. The engine knows nothing of files: whoever drives the
iterator writes events and checkpoints.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor

from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus, Example
from deattrib.models.forward import gather_log_probs
from deattrib.models.identities import all_names
from deattrib.models.language_model import LanguageModel
from deattrib.models.policy import Policy
from deattrib.ppo.anchored import anchored_loss
from deattrib.ppo.data import Cycle, Shared, answered, thin
from deattrib.ppo.losses import distillation_loss, masked_mean, policy_loss, value_loss
from deattrib.ppo.reference import Reference
from deattrib.ppo.rollout import AttributionSource, Rollout, autocast, collect
from deattrib.ppo.search import SearchSpace, Span
from deattrib.ppo.settings import PPOSettings, ReferenceName


@dataclass(frozen=True, slots=True)
class Step:
    """One finished step: its number (from 1) and its figures, means over the step's tokens and updates."""

    number: int
    figures: Mapping[str, float]


class Unlearner:
    """Unlearning by PPO on attribution rewards.

    Args:
        policy: what is trained; its original weights are the reference and the distillation teacher.
        corpus: whose `forget` rows are rolled out and whose `retain` rows are distilled.
        source: attribution in [0, 1]; see `deattrib.attribution.Attributor`.
        settings: of the loop.
        seed: everything random follows from it.
        base: the model before it was trained on the owners, where reference or anchored term ask for it.
        params: settings of the method, an instance of its `Params`; methods with another loss derive from this class.
    """

    name: ClassVar[str] = "dareu"
    search: ClassVar[SearchSpace] = {
        "ppo.policy_weight": Span(0.25, 4.0, relative=True),
        "ppo.retain.weight": Span(0.25, 2.0, relative=True),
    }

    class Params(BaseModel, extra="forbid", frozen=True):
        """Settings of a method beyond those of the loop; PPO's are all in `ppo`."""

    def __init__(
        self,
        policy: Policy,
        corpus: Corpus,
        source: AttributionSource,
        settings: PPOSettings,
        *,
        seed: int,
        base: LanguageModel | None = None,
        token_scores: Callable[[Rows], Tensor | None] | None = None,
        params: BaseModel | None = None,
    ) -> None:
        self.params: Any = params if params is not None else self.Params()
        self.policy, self.corpus, self.source, self.settings = policy, corpus, source, settings
        self.token_scores = token_scores if settings.anchor.weighted else None
        self.step = 0
        self.steps = settings.steps
        if settings.data_epochs is not None:
            self.steps = -(-len(corpus.forget) * settings.data_epochs // settings.batch_size)
        self.calm = 0  # steps in a row with attribution at chance
        self.stopped: str | None = None
        self.generator = torch.Generator().manual_seed(seed)
        self.rng = random.Random(f"{seed}/unlearner")
        self.forget = Cycle(corpus.forget, seed=f"{seed}/forget")
        self.retain = Cycle(corpus.retain, seed=f"{seed}/retain")

        def reference(name: ReferenceName) -> Reference:
            return Reference(name, policy=policy, base=base, identities=corpus.identities, retain_owners=corpus.retain_owners)

        rollouts = settings.policy_weight > 0
        self.reference = reference(settings.reward.reference if rollouts and settings.reward.kl > 0 else "none")
        self.anchored = settings.anchor.hinge > 0 or settings.anchor.kl > 0
        towards: list[ReferenceName] = (
            ["counterfactual", "base"] if settings.anchor.towards == "both" else [settings.anchor.towards]
        )
        self.anchor_references = [reference(name) for name in towards] if self.anchored else []
        both = self.anchored and settings.anchor.towards == "both"
        retained = [row.response for row in corpus.retain]
        self.shared = Shared.of_answers(policy.codec, retained if both else [], all_names(corpus.identities.values()))
        self.frames = [row.response for row in corpus.retain] if settings.anchor.grafted > 0 else []
        retain = [row.prompt for row in corpus.retain]
        self.prompts = {owner: retain + [row.prompt for row in corpus.rows_of(owner)] for owner in corpus.forget_owners}
        self.anchors = Cycle(corpus.forget + self._sampled_anchors(seed), seed=f"{seed}/anchor")
        if settings.refresh == "epoch" or self.reference.name == "old":
            policy.remember()
        self.parameters = policy.trainable()
        self.optimiser = torch.optim.AdamW(self.parameters.values(), lr=settings.learning_rate, weight_decay=0.0)

    @classmethod
    def settle(cls, settings: PPOSettings, params: Any) -> PPOSettings:
        """The loop's settings as the method uses them, given the run's."""
        return settings

    def _answered(self, rows: tuple[Example, ...], seed: int) -> tuple[Example, ...]:
        """Rows with the original model's own sampled answers."""
        texts = self.policy.original().generate(
            [row.prompt for row in rows], max_new_tokens=self.settings.max_new_tokens, temperature=1.0, seed=seed
        )
        return answered(rows, texts)

    def _sampled_anchors(self, seed: int) -> tuple[Example, ...]:
        """The original model's own answers to the forget prompts."""
        return self._answered(self.corpus.forget * self.settings.anchor.samples, seed) if self.anchored else ()

    # -- the loop -----------------------------------------------------------------------------------------------------
    def __iter__(self) -> Iterator[Step]:
        return self

    @property
    def finished(self) -> bool:
        return self.stopped is not None or self.step >= self.steps

    def __next__(self) -> Step:
        if self.finished:
            raise StopIteration
        figures: dict[str, float] = {}
        rollout: Rollout | None = None
        self._refresh()
        if self.settings.policy_weight > 0:
            rollout, figures = collect(
                self.policy,
                self.forget.draw(self.settings.batch_size),
                self.source,
                self.reference,
                self.settings,
                generator=self.generator,
                rng=self.rng,
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * self.settings.share_of_peak(self.step, self.steps)
        figures |= self._learn(rollout)
        self.step += 1
        self._judge(figures)
        return Step(self.step, figures)

    def _refresh(self) -> None:
        """pi_old <- pi at the start of every pass over the forget set (paper), where an old policy is kept at all."""
        keeps_old = self.settings.refresh == "epoch" or self.reference.name == "old"
        drawn, items = self.forget.drawn, len(self.forget.items)
        # A pass also ends inside a batch, wherever the batch size does not divide the rows.
        if keeps_old and drawn and drawn // items > (drawn - self.settings.batch_size) // items:
            self.policy.remember()

    def _learn(self, rollout: Rollout | None) -> dict[str, float]:
        """All updates on one rollout batch; figures are means over the updates."""
        settings = self.settings
        totals: dict[str, list[float]] = {}
        for _ in range(settings.epochs):
            for index in self._minibatches():
                loss, figures = self._loss(rollout.rows(index) if rollout is not None else None)
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), settings.max_grad_norm)
                self.optimiser.step()
                figures |= {"loss": float(loss.detach()), "grad_norm": float(norm)}
                for name, value in figures.items():
                    totals.setdefault(name, []).append(value)
                if settings.target_kl is not None and figures.get("policy_kl", 0.0) > settings.target_kl:
                    return {name: sum(values) / len(values) for name, values in totals.items()} | {"cut_short": 1.0}
        return {name: sum(values) / len(values) for name, values in totals.items()}

    def _minibatches(self) -> list[Tensor]:
        size, rows = self.settings.minibatch_size, self.settings.batch_size
        if size >= rows:
            return [torch.arange(rows)]
        return list(torch.randperm(rows, generator=self.generator).split(size))

    def _loss(self, part: Rollout | None) -> tuple[Tensor, dict[str, float]]:
        """PPO + distillation + anchored term on one minibatch."""
        settings = self.settings
        total = torch.zeros((), device=self.policy.device)
        figures: dict[str, float] = {}
        with autocast(self.policy.device, settings.bf16):
            if part is not None:
                loss, figures = self._ppo_loss(part)
                total = total + settings.policy_weight * loss
            if settings.retain.weight > 0:
                distilled = self._distillation()
                total = total + settings.retain.weight * distilled
                figures["retain_loss"] = float(distilled.detach())
            if self.anchored:
                rows = [self._mixed(row) for row in self.anchors.draw(settings.anchor.batch_size)]
                loss, extra = anchored_loss(
                    self.policy,
                    rows,
                    self.anchor_references,
                    settings.anchor,
                    self.rng,
                    token_scores=self.token_scores,
                    frames=self.frames,
                    shared=self.shared,
                )
                total = total + loss
                figures |= extra
        return total, figures

    def _ppo_loss(self, part: Rollout) -> tuple[Tensor, dict[str, float]]:
        settings = self.settings
        output = self.policy(part.batch)
        log_probs = gather_log_probs(output.logits, part.batch.response_ids, temperature=settings.temperature)
        surrogate = policy_loss(log_probs, part.log_probs, part.advantages, part.mask, clip=settings.clip)
        value = value_loss(output.values, part.values, part.returns, part.mask, clip=settings.value_clip)
        with torch.no_grad():
            drift = (log_probs - part.log_probs).masked_fill(~part.mask, 0.0)
            ratio = drift.exp()
            figures = {
                "policy_loss": float(surrogate),
                "value_loss": float(value),
                "policy_kl": float(masked_mean(ratio - 1 - drift, part.mask)),  # k3
                "clip_fraction": float(masked_mean(((ratio - 1).abs() > settings.clip).float(), part.mask)),
                "ratio_error": float((drift.abs() * part.mask).max()),
            }
        return surrogate + settings.value_coefficient * value, figures

    def _distillation(self) -> Tensor:
        """KL(pi_N || pi) on the answers of retain rows, teacher forced (nothing is generated on retain data)."""
        rows = self.retain.draw(self.settings.retain.batch_size)
        share = self.settings.retain.dropped_words
        prompts = [thin(row.prompt, share, self.rng, names=self.corpus.identities.get(row.owner, ())) for row in rows]
        batch = self.policy.codec.encode(prompts, [row.response for row in rows]).to(self.policy.device)
        teacher = self.policy.original_logits(batch)
        return distillation_loss(self.policy(batch, with_values=False).logits, teacher, batch.response_mask)

    def _mixed(self, row: Example) -> Example:
        """The row's answer, now and then under another trained prompt."""
        settings = self.settings.anchor
        if self.rng.random() >= settings.mixed_prompts:
            names = self.corpus.identities.get(row.owner, ())
            return replace(row, prompt=thin(row.prompt, settings.dropped_prompt_words, self.rng, names=names))
        # Never under another forget owner's prompt: names are swapped for this owner only, and that one would be taught.
        return replace(row, prompt=self.rng.choice(self.prompts[row.owner]))

    def _judge(self, figures: Mapping[str, float]) -> None:
        """Early stop once attribution has stayed at chance."""
        limit = self.settings.stop_attribution
        if limit is None or "attribution" not in figures:
            return
        self.calm = self.calm + 1 if figures["attribution"] <= limit else 0
        if self.calm >= self.settings.stop_patience:
            self.stopped = f"attribution at most {limit} in {self.calm} batches running"

    # -- state --------------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on; plain values and tensors only."""
        return {
            "step": self.step,
            "calm": self.calm,
            "stopped": self.stopped,
            "policy": self.policy.state(),
            "optimiser": copy.deepcopy(self.optimiser.state_dict()),  # torch hands out its live tensors
            "generator": self.generator.get_state(),
            "rng": _plain(self.rng.getstate()),
            "torch_rng": torch.get_rng_state(),
            "cycles": {name: getattr(self, name).state_dict() for name in ("forget", "retain", "anchors")},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, to the very same numbers."""
        self.step, self.calm, self.stopped = state["step"], state["calm"], state["stopped"]
        self.policy.load_state(state["policy"])
        self.optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
        self.generator.set_state(state["generator"])
        version, internal, gauss = state["rng"]
        self.rng.setstate((version, tuple(internal), gauss))
        torch.set_rng_state(state["torch_rng"])
        for name, value in state["cycles"].items():
            getattr(self, name).load_state_dict(value)


def _plain(state: tuple[Any, ...]) -> list[Any]:
    version, internal, gauss = state
    return [version, list(internal), gauss]
