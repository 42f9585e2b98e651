"""NPO without a reference, by the mean instead of the sum over tokens: `simnpo`.

Fan et al., Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning (2024, arXiv 2410.07163):
-(2/beta) E log sigmoid(-(beta/|y|) log pi(y|x) - gamma). Short answers count as much as long ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from deattrib.corpus.types import Example
from deattrib.methods.base import Method
from deattrib.ppo.advantages import response_means
from deattrib.ppo.search import Span


def simnpo_loss(mean_log_probs: Tensor, beta: float, gamma: float) -> Tensor:
    """(2/beta) E log(1 + exp(beta m + gamma)) for mean log-probabilities m per answer, [B]."""
    return 2 / beta * softplus(beta * mean_log_probs + gamma).mean()


class SimNPO(Method):
    """Negative preference optimisation without a reference model."""

    name = "simnpo"
    splits = True
    search = {"beta": Span(0.5, 10.0), "retain_weight": Span(0.1, 50.0)}

    class Params(Method.Params):
        """Weights of SimNPO."""

        beta: float = Field(2.5, gt=0, description="Inverse temperature of the mean log-likelihood.")
        gamma: float = Field(0.0, ge=0, description="Reward margin.")
        retain: Literal["none", "loss", "kl"] = Field("loss", description="As in the paper: cross-entropy.")
        retain_weight: float = Field(
            7.3,
            ge=0,
            description="Theirs for TOFU's forget05, as 1 : 0.1375; for forget10 8, with beta 4.5.",
        )

    def forget_loss(self, rows: Sequence[Example]) -> Tensor:
        batch = self.encode(rows)
        means = response_means(self.log_probs(batch), batch.response_mask)
        return self.row_mean(simnpo_loss(means, self.params.beta, self.params.gamma), rows)
