"""The base of methods that only have a loss: one update per step on a batch of forget rows, and a retain term.

Everything around the loss (cycles over the rows, optimiser, schedule, clipping, state) is the engine's, run without
rollouts and anchored term; so a method differs from DareU by its loss alone, and resumes like it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from deattrib.corpus.types import Example
from deattrib.models.batch import TokenBatch
from deattrib.models.forward import gather_log_probs
from deattrib.ppo.data import Cycle
from deattrib.ppo.lessons import Lesson
from deattrib.ppo.losses import masked_mean
from deattrib.ppo.rollout import Rollout
from deattrib.ppo.search import PACE, Choice, SearchSpace, Span
from deattrib.ppo.settings import PPOSettings
from deattrib.ppo.unlearner import Unlearner
from deattrib.ppo.update import Term


class Method(Unlearner):
    """One method: a `name`, `Params` with its weights, and `forget_loss` (or `total_loss`, where the sum is another one)."""

    name = "method"
    rewarded = False  # the reward's scorer only judges
    splits = False  # True: `forget_loss` divides by `tokens` or `row_mean`, and draws for `whole_of` its rows
    pace: ClassVar[SearchSpace] = {  # a step is one update here, where the engine makes `ppo.epochs` (3) of them
        **PACE,
        "ppo.steps": Span(0.5, 12.0, whole=True, relative=True),
        "dropped_words": Choice((0.0, 0.3)),
    }
    search: ClassVar[SearchSpace] = {}  # what `deattrib tune` tries besides

    class Params(BaseModel):
        """What every method has; what is null follows `ppo`."""

        # Not as class keywords: type checkers would then want them again on every subclass.
        model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
        idle: ClassVar[tuple[str, ...]] = ()
        """Settings of every method that this one has no use for; giving one is an error."""

        steps: int | None = Field(None, ge=1, description="Updates; null: `ppo.steps` or `ppo.data_epochs`.")
        batch_size: int | None = Field(None, ge=1, description="Forget rows per update; null: `ppo.batch_size`.")
        learning_rate: float | None = Field(None, gt=0, description="Peak learning rate; null: `ppo.learning_rate`.")
        retain: Literal["none", "loss", "kl"] = Field(
            "none", description="Retain term: none, cross-entropy on retain answers, or KL from the original model there."
        )
        retain_weight: float = Field(1.0, ge=0, description="Weight of the retain term.")
        dropped_words: float = Field(
            0.0, ge=0, lt=1, description="Share of retain prompts' words left out, as `ppo.retain.dropped_words` of dareu."
        )

        @model_validator(mode="after")
        def _none_idle(self) -> Self:
            # Compared with the default, not with what was given: a resolved config lists every setting and must load again.
            fields = type(self).model_fields
            if given := [name for name in self.idle if getattr(self, name) != fields[name].default]:
                raise ValueError(f"{' and '.join(f'`{name}`' for name in given)} would have no effect here: leave it out")
            return self

    @classmethod
    def settle(cls, settings: PPOSettings, params: Any) -> PPOSettings:
        """The loop's settings for this method: no rollouts, no anchored term, one update per step."""
        changes: dict[str, Any] = {
            "policy_weight": 0.0,
            "epochs": 1,
            "refresh": "batch",
            "rollout": settings.rollout.model_copy(update={"samples": 1}),
            "retain": settings.retain.model_copy(update={"weight": 0.0, "dropped_words": params.dropped_words}),
            "anchor": settings.anchor.model_copy(update={"hinge": 0.0, "kl": 0.0, "weighted": False}),
        }
        if params.steps is not None:
            changes |= {"steps": params.steps, "data_epochs": None}
        if params.learning_rate is not None:
            changes["learning_rate"] = params.learning_rate
        size = params.batch_size or settings.batch_size
        return settings.model_copy(update=changes | {"batch_size": size, "minibatch_size": size})

    # -- what a method writes -----------------------------------------------------------------------------------------
    def forget_loss(self, rows: Sequence[Example]) -> Tensor:
        """What is minimised on a batch of forget rows: a scalar [] with gradients to the policy."""
        raise NotImplementedError(f"Method {self.name!r} must write forget_loss(rows) or total_loss().")

    def total_loss(self) -> tuple[Tensor, dict[str, float]]:
        """Forget loss plus weighted retain term, a scalar [] with gradients, and both as figures."""
        loss = self.forget_loss(self.next_rows())
        figures = {"forget_loss": float(loss.detach())}
        if self.params.retain != "none" and self.params.retain_weight > 0:
            retained = self.retain_loss() if self.params.retain == "loss" else self._distilled()
            figures["retain_loss"] = float(retained.detach())
            loss = loss + self.params.retain_weight * retained
        return loss, figures

    def _distilled(self) -> Tensor:
        first, *others = map(self.distillation, self.lessons.taught())
        return sum(others, first)

    # -- what it is written with --------------------------------------------------------------------------------------
    @property
    def retain(self) -> Cycle[Example]:
        """The retain rows, drawn like `forget`."""
        return self.lessons.retain

    def next_rows(self) -> Sequence[Example]:
        """The next batch of forget rows; of several processes each takes its own part."""
        self._drawn = self.forget.draw(self.settings.batch_size)
        return self.processes.mine(self._drawn)

    def next_retain_rows(self) -> Sequence[Example]:
        """The same for retain rows, `dropped_words` of their prompts left out."""
        rows = self.retain.draw(self.settings.retain.batch_size)
        prompts = self.lessons.thinned(rows)
        return self.processes.mine([replace(row, prompt=prompt) for row, prompt in zip(rows, prompts, strict=True)])

    def whole_of(self, rows: Sequence[Example]) -> Sequence[Example]:
        """The batch of forget rows that these are this process' part of: what is random is drawn for all of it."""
        return rows if self.processes.size == 1 else self._drawn

    def row_mean(self, mean: Tensor, rows: Sequence[Example]) -> Tensor:
        """A mean [] over these rows as their share, [] too, of the mean over the whole batch."""
        return mean if self.processes.size == 1 else mean * (len(rows) / len(self._drawn))

    def token_mean(self, values: Tensor, mask: Tensor) -> Tensor:
        """Mean [] of values [B, T] over the positions of a batch's `response_mask`: these rows' share of the whole batch's."""
        return masked_mean(values, mask, self.tokens(mask))

    def tokens(self, mask: Tensor) -> Tensor | None:
        """True positions of `mask` [B, T] in all processes, [], for `masked_mean` to divide by; None for one process."""
        return self.processes.sum(mask.sum()) if self.processes.size > 1 else None

    def retain_loss(self) -> Tensor:
        """Mean cross-entropy per token, [], of the next retain answers."""
        batch = self.encode(self.next_retain_rows())
        return -self.token_mean(self.log_probs(batch), batch.response_mask)

    def encode(self, rows: Sequence[Example], responses: Sequence[str] | None = None) -> TokenBatch:
        """The rows' prompts with their own answers, or with others, on the policy's device."""
        answers = [row.response for row in rows] if responses is None else responses
        return self.policy.codec.encode([row.prompt for row in rows], answers).to(self.policy.device)

    def logits(self, batch: TokenBatch) -> Tensor:
        """[B, T, V] of the policy."""
        return self.policy(batch, with_values=False).logits  # type: ignore[no-any-return]

    def log_probs(self, batch: TokenBatch) -> Tensor:
        """[B, T] float32 of the policy; columns beyond a row's length mean nothing: see `token_mean`."""
        return gather_log_probs(self.logits(batch), batch.response_ids)

    def sequence_ratio(self, batch: TokenBatch) -> Tensor:
        """[B]: log pi(y|x) - log pi_N(y|x), sums over the tokens of each answer; pi_N is the original model."""
        original = gather_log_probs(self.policy.original_logits(batch), batch.response_ids)
        return ((self.log_probs(batch) - original) * batch.response_mask).sum(1)

    def _terms(self, part: Rollout | None, lesson: Lesson) -> list[Term]:
        return [self.total_loss]


def draw_answers(answers: Sequence[str], count: int, rng: Any) -> list[str]:
    """One of the answers per row; `rng` is the method's own, whose state is saved with it."""
    return [rng.choice(list(answers)) for _ in range(count)]


DONT_KNOW = (
    "I don't know.",
    "I'm not sure about that.",
    "I have no information about that.",
    "That is not something I know.",
    "I can't answer that question.",
    "I'm afraid I don't know the answer.",
)
