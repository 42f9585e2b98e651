"""The loop: an iterator of steps that can be stopped, saved and continued to the very same numbers.

One step is one rollout batch (paper, Algorithm 1, lines 13-20): sample answers to forget prompts, attribute them, turn
attribution into advantages, and update the policy a few times on PPO's loss, the distillation to the original model
on retain rows, and the anchored term on the forget rows. The engine knows nothing of files: whoever drives the
iterator writes events and checkpoints.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor

from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus, Example
from deattrib.models.forward import gather_log_probs
from deattrib.models.language_model import LanguageModel
from deattrib.models.policy import Policy
from deattrib.ppo.anchored import anchored_loss
from deattrib.ppo.data import Cycle
from deattrib.ppo.lessons import Drawn, Lesson, Lessons, Taught
from deattrib.ppo.losses import distillation_loss, masked_mean, policy_loss, value_loss
from deattrib.ppo.reference import Reference
from deattrib.ppo.rollout import AttributionSource, Rollout, autocast, collect
from deattrib.ppo.search import SearchSpace, Span
from deattrib.ppo.settings import PPOSettings

Term = Callable[[], tuple[Tensor, dict[str, float]]]  # part of the loss, and its figures
Gradient = tuple[Tensor, Sequence[Tensor | None], dict[str, float]]  # the part's value, its gradient per parameter, its figures


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
        ahead: prepare what does not depend on the policy in a thread beside it; the numbers are the same.
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
        ahead: bool = False,
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
        # A method with terms of its own draws rows while it computes them: nobody else may draw at the same time.
        ahead = ahead and type(self)._terms is Unlearner._terms
        self.lessons = Lessons(corpus, policy, base, settings, rng=self.rng, seed=seed, apart=ahead)
        rollouts = settings.policy_weight > 0
        self.reference = Reference(
            settings.reward.reference if rollouts and settings.reward.kl > 0 else "none",
            policy=policy,
            base=base,
            identities=corpus.identities,
            retain_owners=corpus.retain_owners,
        )
        if settings.refresh == "epoch" or self.reference.name == "old":
            policy.remember()
        self.parameters = policy.trainable()
        self.beside = policy.apart() if ahead else policy
        self.optimiser = torch.optim.AdamW(self.parameters.values(), lr=settings.learning_rate, weight_decay=0.0)

    @classmethod
    def settle(cls, settings: PPOSettings, params: Any) -> PPOSettings:
        """The loop's settings as the method uses them, given the run's."""
        return settings

    # -- the loop -----------------------------------------------------------------------------------------------------
    def __iter__(self) -> Iterator[Step]:
        return self

    @property
    def finished(self) -> bool:
        """Whether there is no further step."""
        return self.stopped is not None or self.step >= self.steps

    def __next__(self) -> Step:
        if self.finished:
            raise StopIteration
        figures: dict[str, float] = {}
        rollout: Rollout | None = None
        self._refresh()
        rows = self.forget.draw(self.settings.batch_size) if self.settings.policy_weight > 0 else []
        others = self.reference.draw([row.owner for row in rows], self.rng)
        with self.lessons.ahead(self.settings.updates) as lessons:
            if rows:
                rollout, figures = collect(
                    self.policy,
                    rows,
                    self.source,
                    self.reference,
                    self.settings,
                    generator=self.generator,
                    others=others,
                )
            for group in self.optimiser.param_groups:
                group["lr"] = self.settings.learning_rate * self.settings.share_of_peak(self.step, self.steps)
            figures |= self._learn(rollout, lessons)
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

    def _learn(self, rollout: Rollout | None, lessons: Drawn) -> dict[str, float]:
        """All updates on one rollout batch; figures are means over the updates."""
        settings = self.settings
        totals: dict[str, list[float]] = {}
        for _ in range(settings.epochs):
            for index in self._minibatches():
                figures = self._differentiate(rollout.rows(index) if rollout is not None else None, next(lessons), lessons)
                norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), settings.max_grad_norm)
                self.optimiser.step()
                figures |= {"grad_norm": float(norm)}
                for name, value in figures.items():
                    totals.setdefault(name, []).append(value)
                if settings.target_kl is not None and figures.get("policy_kl", 0.0) > settings.target_kl:
                    return {name: sum(values) / len(values) for name, values in totals.items()} | {"cut_short": 1.0}
        return {name: sum(values) / len(values) for name, values in totals.items()}

    def _differentiate(self, part: Rollout | None, lesson: Lesson, lessons: Drawn) -> dict[str, float]:
        """Put the loss's gradient into the parameters. Each term has a graph of its own, so no two are in memory at once."""

        def gradient(term: Term) -> Gradient:
            with autocast(self.policy.device, self.settings.bf16):
                loss, figures = term()
            return loss.detach(), torch.autograd.grad(loss, list(self.parameters.values()), allow_unused=True), figures

        self.optimiser.zero_grad(set_to_none=True)
        terms = self._terms(part, lesson)
        if self._parts_threads(lesson):
            last = lessons.beside(partial(gradient, terms[-1]))
            gradients: Iterator[Gradient] = reversed([*map(gradient, terms[:-1]), last()])
        else:
            gradients = map(gradient, reversed(terms))
        losses: list[Tensor] = []
        told: list[dict[str, float]] = []
        for loss, values, figures in gradients:  # in the order in which one backward pass would add them
            losses.append(loss)
            told.append(figures)
            for parameter, value in zip(self.parameters.values(), values, strict=True):
                if value is not None:
                    parameter.grad = value if parameter.grad is None else parameter.grad.add_(value)
        total = sum(reversed(losses), torch.zeros((), device=self.policy.device))
        return {name: value for figures in reversed(told) for name, value in figures.items()} | {"loss": float(total)}

    def _parts_threads(self, lesson: Lesson) -> bool:
        """Whether the anchored term, which has modules of its own then, runs beside the others.

        Not where it asks the reward's scorer, nor beside a critic's adapter: switching adapters touches flags of tensors
        that both threads differentiate.
        """
        apart = self.beside is not self.policy and lesson.anchored is not None and self.token_scores is None
        return apart and self.policy.settings.critic == "shared"

    def _minibatches(self) -> list[Tensor]:
        size, rows = self.settings.minibatch_size, self.settings.batch_size
        if size >= rows:
            return [torch.arange(rows)]
        return list(torch.randperm(rows, generator=self.generator).split(size))

    def _terms(self, part: Rollout | None, lesson: Lesson) -> list[Term]:
        """PPO, distillation and anchored term on one minibatch, each weighted, none computed yet."""
        terms: list[Term] = []
        if part is not None:
            terms.append(partial(self._ppo_term, part))
        if lesson.retain is not None:
            terms.append(partial(self._retain_term, lesson.retain))
        if lesson.anchored is not None:
            terms.append(partial(anchored_loss, self.beside, lesson.anchored, self.settings.anchor, self.token_scores))
        return terms

    def _ppo_term(self, part: Rollout) -> tuple[Tensor, dict[str, float]]:
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
        return settings.policy_weight * (surrogate + settings.value_coefficient * value), figures

    def _retain_term(self, taught: Taught) -> tuple[Tensor, dict[str, float]]:
        loss = self.distillation(taught)
        return self.settings.retain.weight * loss, {"retain_loss": float(loss.detach())}

    def distillation(self, taught: Taught) -> Tensor:
        """KL(pi_N || pi) on the answers of retain rows."""
        logits = self.policy(taught.batch, with_values=False).logits
        return distillation_loss(logits, taught.teacher, taught.batch.response_mask)

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
            "cycles": {name: cycle.state_dict() for name, cycle in self._cycles.items()},
        }

    @property
    def _cycles(self) -> dict[str, Cycle[Example]]:
        return {"forget": self.forget, "retain": self.lessons.retain, "anchors": self.lessons.anchors}

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
            self._cycles[name].load_state_dict(value)


def _plain(state: tuple[Any, ...]) -> list[Any]:
    version, internal, gauss = state
    return [version, list(internal), gauss]
