"""Away from the teacher on forget rows, close to it on retain rows, by turns: `scrub`.

Kurmanji et al., Towards Unbounded Machine Unlearning (NeurIPS 2023), the SCRUB objective: min alpha KL(teacher || student)
+ gamma CE on retain rows, max KL(teacher || student) on forget rows; the teacher is the original model. They alternate
passes over the data and stop the max passes first; here updates take turns, `repair` that minimise and one that goes away,
and the last part of them only minimises; no temperature on either distribution. The first one
minimises: while the policy is its own teacher the KL has no gradient, and Adam would make a step of the rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor

from deattrib.corpus.types import Example
from deattrib.methods.base import Method
from deattrib.models.forward import gather_log_probs
from deattrib.ppo.losses import distillation_loss, masked_mean
from deattrib.ppo.search import Choice, Span


class SCRUB(Method):
    """Teacher and student: divergence on forget rows, imitation on retain rows."""

    name = "scrub"
    splits = True
    search = {"alpha": Span(0.05, 5.0), "gamma": Span(0.1, 10.0), "repair": Choice((1, 2, 4, 8))}

    class Params(Method.Params):
        """Weights of SCRUB, which are those of its retain terms, too."""

        idle = ("retain", "retain_weight")

        alpha: float = Field(0.5, ge=0, description="Weight of the KL from the original model on retain rows.")
        gamma: float = Field(1.0, ge=0, description="Weight of the cross-entropy on retain rows.")
        ascent: float = Field(0.7, gt=0, le=1, description="Share of the steps in which some updates go away.")
        repair: int = Field(1, ge=1, description="Updates that minimise before each one that goes away.")

    def total_loss(self) -> tuple[Tensor, dict[str, float]]:
        turn = 1 + self.params.repair
        if self.step % turn == turn - 1 and self.step < self.params.ascent * self.steps:
            loss = self.forget_loss(self.next_rows())
            return loss, {"forget_loss": float(loss.detach())}
        batch = self.encode(self.next_retain_rows())
        logits, mask = self.logits(batch), batch.response_mask
        tokens = self.tokens(mask)
        imitated = distillation_loss(logits, self.policy.original_logits(batch), mask, tokens)
        entropy = -masked_mean(gather_log_probs(logits, batch.response_ids), mask, tokens)
        loss = self.params.alpha * imitated + self.params.gamma * entropy
        return loss, {"retain_loss": float(loss.detach())}

    def forget_loss(self, rows: Sequence[Example]) -> Tensor:
        batch = self.encode(rows)
        mask = batch.response_mask
        return -distillation_loss(self.logits(batch), self.policy.original_logits(batch), mask, self.tokens(mask))
