"""The loop: an iterator of steps that can be stopped, saved and continued to the very same numbers.

One step is one rollout batch (Lu et al. 2026, arXiv 2605.30919, Algorithm 1, lines 13-20): sample answers to forget prompts,
attribute them, turn attribution into advantages, and update the policy a few times on PPO's loss, the distillation to the
original model on retain rows, and the anchored term on the forget rows. The engine knows nothing of files: whoever drives
the iterator writes events and checkpoints.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor

from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus, Example
from deattrib.models.language_model import LanguageModel
from deattrib.models.policy import Policy
from deattrib.models.ranks import ALONE, ProcessGroup
from deattrib.models.sharding import spread_state, whole_state
from deattrib.ppo.anchored import anchored_loss
from deattrib.ppo.data import Cycle, minibatches, plain_state, set_plain_state
from deattrib.ppo.health import Fault, Health
from deattrib.ppo.lessons import Drawn, Lesson, Lessons, Taught
from deattrib.ppo.losses import distillation_loss
from deattrib.ppo.reference import Reference
from deattrib.ppo.rollout import AttributionSource, Rollout, collect
from deattrib.ppo.search import ANCHORED, PACE, SearchSpace, Span
from deattrib.ppo.settings import PPOSettings
from deattrib.ppo.split import check_split
from deattrib.ppo.terms import ppo_term
from deattrib.ppo.update import Gradient, Term, accumulate, clip, gradient, means


@dataclass(frozen=True, slots=True)
class Step:
    """One finished step: its number (from 1), its figures, means over the step's tokens and updates, and new faults."""

    number: int
    figures: Mapping[str, float]
    faults: tuple[Fault, ...] = ()


class Unlearner:
    """Unlearning by PPO on attribution rewards.

    Args:
        policy: what is trained; its original weights are the reference and the distillation teacher.
        corpus: whose `forget` rows are rolled out and whose `retain` rows are distilled.
        source: attribution in [0, 1]; see `deattrib.Attributor`.
        settings: of the loop.
        seed: everything random follows from it.
        base: the model before it was trained on the owners, where reference or anchored term ask for it.
        token_scores: shares of the response tokens, rows -> [B, T] or None, for `anchor.weighted`.
        params: settings of the method, an instance of its `Params`; methods with another loss derive from this class.
        ahead: prepare what does not depend on the policy in a thread beside it; the numbers are the same.
        processes: the processes that share every batch; all of them make the same steps and hold the same state.

    Raises:
        ConfigError: a batch cannot be split over the processes, or names or a base model are asked for that are not there.
    """

    name: ClassVar[str] = "dareu"
    rewarded: ClassVar[bool] = True  # trained on the reward
    splits: ClassVar[bool] = True  # the loss is written so that what processes make of parts of a batch adds up to the batch's
    pace: ClassVar[SearchSpace] = PACE  # what `deattrib tune` tries of learning rate and steps, and of `search` besides
    search: ClassVar[SearchSpace] = {"ppo.policy_weight": Span(0.25, 4.0, relative=True), **ANCHORED}

    class Params(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
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
        processes: ProcessGroup = ALONE,
    ) -> None:
        check_split(settings, processes, type(self))
        self.params: Any = params if params is not None else self.Params()
        self.policy, self.corpus, self.source, self.settings, self.processes = policy, corpus, source, settings, processes
        self.token_scores = token_scores if settings.anchor.weighted else None
        self.step = 0
        self.steps = settings.steps_on(len(corpus.forget))
        self.calm = 0  # steps in a row with attribution at chance
        self.stopped: str | None = None
        self.rollback = False  # the weights are not to be kept: whoever drives the loop goes back to a checkpoint
        self.whole = True  # the state is that of the end of a step, and may be saved
        self.health = Health(settings.health)
        self.generator = torch.Generator().manual_seed(seed)
        self.rng = random.Random(f"{seed}/unlearner")
        self.forget = Cycle(corpus.forget, seed=f"{seed}/forget")
        # A method with terms of its own draws rows while it computes them: nobody else may draw at the same time.
        ahead = ahead and type(self)._terms is Unlearner._terms and processes.size == 1
        self.lessons = Lessons(corpus, policy, base, settings, rng=self.rng, seed=seed, apart=ahead, processes=processes)
        rollouts = settings.policy_weight > 0
        self.reference = Reference(
            settings.reward.reference if rollouts and settings.reward.kl > 0 else "none",
            policy=policy,
            base=base,
            identities=corpus.identities,
            retain_owners=corpus.retain_owners,
        )
        if settings.keeps_old:
            policy.remember()
        self.parameters = policy.trainable()
        processes.same(list(self.parameters.values()))
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
        before = self._place()
        try:
            figures, rollout = self._advance()
        except BaseException:
            if self.whole:  # no update yet: as if the step had never begun
                self._return_to(before)
            raise
        self.step, self.whole = self.step + 1, True
        self._judge(figures)
        responses = rollout.batch.response_lists() if rollout is not None else None
        faults = self.health.look(self.step, figures, responses)
        if faults and self.settings.health.on_fault != "note":
            self.stopped = "; ".join(fault.message for fault in faults)
            self.rollback = self.settings.health.on_fault == "rollback"
        return Step(self.step, figures, faults)

    def _advance(self) -> tuple[dict[str, float], Rollout | None]:
        """Rollout and updates of one step."""
        figures: dict[str, float] = {}
        rollout: Rollout | None = None
        self._refresh()
        rows = self.forget.draw(self.settings.prompts) if self.settings.policy_weight > 0 else []
        rows = [row for row in rows for _ in range(self.settings.rollout.samples)]
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
                    processes=self.processes,
                )
            for group in self.optimiser.param_groups:
                group["lr"] = self.settings.learning_rate * self.settings.share_of_peak(self.step, self.steps)
            figures |= self._learn(rollout, lessons)
        return figures, rollout

    def _refresh(self) -> None:
        """pi_old <- pi at the start of every pass over the forget set (paper), where an old policy is kept at all."""
        drawn, items = self.forget.drawn, len(self.forget.items)
        # A pass also ends inside a batch, wherever the batch size does not divide the rows.
        if self.settings.keeps_old and drawn and drawn // items > (drawn - self.settings.prompts) // items:
            self.policy.remember()

    def _learn(self, rollout: Rollout | None, lessons: Drawn) -> dict[str, float]:
        """All updates on one rollout batch; figures are means over the updates."""
        settings = self.settings
        told: list[dict[str, float]] = []
        skipped = 0
        for _ in range(settings.epochs):
            for index in minibatches(settings.batch_size, settings.minibatch_size, self.generator):
                part = rollout.rows(index, self.processes) if rollout is not None else None
                figures = self._differentiate(part, next(lessons), lessons)
                norm, finite = clip(list(self.parameters.values()), settings.max_grad_norm)
                if finite:
                    self.whole = False
                    self.optimiser.step()
                skipped += not finite
                told.append(figures | norm)
                if settings.target_kl is not None and figures.get("policy_kl", 0.0) > settings.target_kl:
                    return means(told) | {"cut_short": 1.0} | ({"skipped_updates": float(skipped)} if skipped else {})
        return means(told) | ({"skipped_updates": float(skipped)} if skipped else {})

    def _differentiate(self, part: Rollout | None, lesson: Lesson, lessons: Drawn) -> dict[str, float]:
        """Put the loss's gradient into the parameters; figures of its terms."""
        parameters = list(self.parameters.values())
        spread = self.policy.spread_out
        of = partial(gradient, parameters=parameters, device=self.policy.device, bf16=self.settings.bf16, spread=spread)
        self.optimiser.zero_grad(set_to_none=True)
        terms = self._terms(part, lesson)
        gradients: Iterator[Gradient] = map(of, reversed(terms))
        if self._parts_threads(lesson):
            apart = len(lesson.anchored)
            last = lessons.beside(lambda: [of(term) for term in terms[-apart:]])
            gradients = reversed([*map(of, terms[:-apart]), *last()])
        return accumulate(gradients, parameters, device=self.policy.device, processes=self.processes)

    def _parts_threads(self, lesson: Lesson) -> bool:
        """Whether the anchored term, which has modules of its own then, runs beside the others.

        Not where it asks the reward's scorer, nor beside a critic's adapter: switching adapters touches flags of tensors
        that both threads differentiate.
        """
        apart = self.beside is not self.policy and bool(lesson.anchored) and self.token_scores is None
        return apart and self.policy.settings.critic == "shared"

    def _terms(self, part: Rollout | None, lesson: Lesson) -> list[Term]:
        """PPO, distillation and anchored term on one minibatch, each weighted, none computed yet."""
        terms: list[Term] = []
        if part is not None:
            terms.append(partial(ppo_term, self.policy, part, self.settings))
        terms += [partial(self._retain_term, part) for part in lesson.retain]
        last = (self.settings.anchor, self.token_scores, self.processes)
        return terms + [partial(anchored_loss, self.beside, part, *last) for part in lesson.anchored]

    def _retain_term(self, taught: Taught) -> tuple[Tensor, dict[str, float]]:
        loss = self.distillation(taught)
        return self.settings.retain.weight * loss, {"retain_loss": float(loss.detach())}

    def distillation(self, taught: Taught) -> Tensor:
        """KL(pi_N || pi) on the answers of retain rows, a scalar [] with gradients."""
        logits = self.policy(taught.batch, with_values=False).logits
        return distillation_loss(logits, taught.teacher, taught.batch.response_mask, taught.tokens)

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
            "optimiser": whole_state(self.optimiser),
            "health": self.health.state_dict(),
            **self._place(),
        }

    def _place(self) -> dict[str, Any]:
        """Where everything that is drawn stands."""
        return {
            "generator": self.generator.get_state(),
            "rng": plain_state(self.rng),
            "torch_rng": torch.get_rng_state(),
            "cycles": {name: cycle.state_dict() for name, cycle in self._cycles.items()},
        }

    def _return_to(self, place: dict[str, Any]) -> None:
        self.generator.set_state(place["generator"])
        set_plain_state(self.rng, place["rng"])
        torch.set_rng_state(place["torch_rng"])
        for name, value in place["cycles"].items():
            self._cycles[name].load_state_dict(value)

    @property
    def _cycles(self) -> dict[str, Cycle[Example]]:
        return {"forget": self.forget, "retain": self.lessons.retain, "anchors": self.lessons.anchors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, to the very same numbers."""
        self.step, self.calm, self.stopped = state["step"], state["calm"], state["stopped"]
        self.policy.load_state(state["policy"])
        self.optimiser.load_state_dict(spread_state(state["optimiser"], self.parameters.values()))
        self.health.load_state_dict(state["health"])
        self.rollback, self.whole = False, True
        self._return_to(state)
