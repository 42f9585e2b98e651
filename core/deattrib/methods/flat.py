"""Loss adjustment with forget data only: `flat`.

Wang et al., LLM Unlearning via Loss Adjustment with Only Forget Data (2024, arXiv 2410.11143): maximise the variational
form of an f-divergence between a template answer y_e and the forget answer y_f, g*(P(y_e)) - f*(g*(P(y_f))), where P is
the mean over an answer's tokens of their probability. Neither retain rows nor a reference are used. f* and g* of the
four divergences are those of Nowozin et al., f-GAN (2016), as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from deattrib.corpus.types import Example
from deattrib.methods.base import DONT_KNOW, Method, draw_answers
from deattrib.ppo.advantages import response_means
from deattrib.ppo.search import Choice

Divergence = Literal["kl", "pearson", "js", "tv"]


def optimal(value: Tensor, divergence: Divergence) -> Tensor:
    """g*: the output activation, into the domain of f*."""
    if divergence == "js":
        return torch.log(torch.tensor(2.0)) - softplus(-value)
    return torch.tanh(value) / 2 if divergence == "tv" else value


def conjugate(value: Tensor, divergence: Divergence) -> Tensor:
    """f*: the convex conjugate of the divergence's generator."""
    if divergence == "js":
        return -torch.log(2 - value.exp())
    if divergence == "tv":
        return value
    return (value - 1).exp() if divergence == "kl" else value**2 / 4 + value


def flat_loss(template: Tensor, forget: Tensor, divergence: Divergence) -> Tensor:
    """-E[g*(P_e) - f*(g*(P_f))]; both [B]: mean token probabilities."""
    return (conjugate(optimal(forget, divergence), divergence) - optimal(template, divergence)).mean()


class FLAT(Method):
    """Loss adjustment between a template answer and the owner's."""

    name = "flat"
    splits = True
    search = {"divergence": Choice(("kl", "pearson", "js", "tv"))}

    class Params(Method.Params):
        """Choices of FLAT."""

        divergence: Divergence = Field("kl", description="f-divergence: KL, Pearson, Jensen-Shannon or total variation.")
        answers: tuple[str, ...] = Field(DONT_KNOW, min_length=1, description="Template answers; one is drawn per row.")

    def forget_loss(self, rows: Sequence[Example]) -> Tensor:
        answers = self.processes.mine(draw_answers(self.params.answers, len(self.whole_of(rows)), self.rng))
        template = self._probability(rows, answers)
        return self.row_mean(flat_loss(template, self._probability(rows, None), self.params.divergence), rows)

    def _probability(self, rows: Sequence[Example], responses: Sequence[str] | None) -> Tensor:
        batch = self.encode(rows, responses)
        return response_means(self.log_probs(batch).exp(), batch.response_mask)
