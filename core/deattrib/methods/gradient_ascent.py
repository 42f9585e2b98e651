"""Gradient ascent on forget answers, alone or with a retain term: `ga`, `graddiff`, `ga-kl`.

`ga`: Jang et al., Knowledge Unlearning for Mitigating Privacy Risks in Language Models (ACL 2023), their unlearning
objective. `graddiff`: Liu, Liu and Stone, Continual Learning and Private Unlearning (2022). `ga-kl`: the KL minimisation
of Maini et al., TOFU (2024). All three as TOFU has them: means over tokens, answers only. The loss has no lower end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from deattrib.corpus.types import Example
from deattrib.methods.base import Method
from deattrib.ppo.search import Span


class GradientAscent(Method):
    """Gradient ascent: minimise E_t log pi(y_t|x, y_<t) on forget answers."""

    name = "ga"
    splits = True

    def forget_loss(self, rows: Sequence[Example]) -> Tensor:
        batch = self.encode(rows)
        return self.token_mean(self.log_probs(batch), batch.response_mask)


class GradientDifference(GradientAscent):
    """Gradient ascent on forget answers, descent on retain answers."""

    name = "graddiff"
    search = {"retain_weight": Span(0.1, 10.0)}

    class Params(Method.Params):
        """Gradient difference."""

        retain: Literal["none", "loss", "kl"] = Field("loss", description="As in the paper: cross-entropy.")


class GradientAscentKL(GradientAscent):
    """Gradient ascent on forget answers, KL from the original model on retain answers."""

    name = "ga-kl"
    search = {"retain_weight": Span(0.1, 10.0)}

    class Params(Method.Params):
        """Gradient ascent with KL."""

        retain: Literal["none", "loss", "kl"] = Field("kl", description="As in TOFU: KL from the original model.")
