"""Preference for "I don't know" over the owner's answer: `dpo-idk` (IdkDPO).

Rafailov et al., Direct Preference Optimization (2023), equation 7: preferred a refusal (the idea of the preference
optimisation in Maini et al., TOFU, 2024), dispreferred the true answer; pi_ref is the original model. The formula is
four lines, so it runs in our loop: trl's trainer would bring its own checkpoints, which do not resume to the same numbers,
and a second copy of the reference without LoRA.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from deattrib.corpus.types import Example
from deattrib.methods.base import DONT_KNOW, Method, draw_answers
from deattrib.ppo.search import Choice, Span


def dpo_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """-E log sigmoid(beta (chosen - rejected)); both [B]: log pi/pi_ref of a whole answer."""
    return -logsigmoid(beta * (chosen - rejected)).mean()


class IdkDPO(Method):
    """Direct preference optimisation of refusals over the owner's answers."""

    name = "dpo-idk"
    splits = True
    search = {"beta": Span(0.01, 1.0), "retain": Choice(("none", "loss", "kl")), "retain_weight": Span(0.01, 10.0)}

    class Params(Method.Params):
        """Weights of IdkDPO."""

        beta: float = Field(0.1, gt=0, description="Inverse temperature.")
        answers: tuple[str, ...] = Field(DONT_KNOW, min_length=1, description="What is preferred; one is drawn per row.")

    def forget_loss(self, rows: Sequence[Example]) -> Tensor:
        refusals = self.encode(rows, self.processes.mine(draw_answers(self.params.answers, len(self.whole_of(rows)), self.rng)))
        loss = dpo_loss(self.sequence_ratio(refusals), self.sequence_ratio(self.encode(rows)), self.params.beta)
        return self.row_mean(loss, rows)
