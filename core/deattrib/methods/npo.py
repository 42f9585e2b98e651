"""Negative preference optimisation: DPO with a loser and no winner, `npo`.

Zhang, Lin, Bai and Mei, Negative Preference Optimization (2024, arXiv 2404.05868), section 3: -(2/beta) E log sigmoid(-beta
log(pi(y|x) / pi_ref(y|x))), with sums over tokens; pi_ref is the original model. As beta -> 0 its gradient becomes that
of gradient ascent on the sum; for beta > 0 it fades once an answer is less likely than it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from deattrib.corpus.types import Example
from deattrib.methods.base import Method
from deattrib.ppo.search import Span


def npo_loss(ratio: Tensor, beta: float) -> Tensor:
    """(2/beta) E log(1 + (pi/pi_ref)^beta) for log ratios [B]; the same as the formula above."""
    return 2 / beta * softplus(beta * ratio).mean()


class NPO(Method):
    """Negative preference optimisation against the original model."""

    name = "npo"
    splits = True
    search = {"beta": Span(0.01, 1.0), "retain_weight": Span(0.1, 10.0)}

    class Params(Method.Params):
        """Weights of NPO."""

        beta: float = Field(0.1, gt=0, description="Inverse temperature; 0.1 in the paper.")
        retain: Literal["none", "loss", "kl"] = Field("loss", description="The paper's NPO+RT; kl: its NPO+KL; none: NPO.")

    def forget_loss(self, rows: Sequence[Example]) -> Tensor:
        return self.row_mean(npo_loss(self.sequence_ratio(self.encode(rows)), self.params.beta), rows)
