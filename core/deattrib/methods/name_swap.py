"""Distillation from the same model asked about somebody else: `name-swap`.

The idea of Eldan and Russinovich, Who's Harry Potter? (2023), anchor terms replaced by generic ones, on distributions
instead of sampled labels: KL(pi_N(.|q', y'_<t) || pi(.|q, y_<t)) on forget answers, with the owner's name swapped for that
of a retain owner, drawn anew for every row and step. It is the KL of the anchored term alone,
without thinned and grafted rows: the control that says what those and the hinge add. It needs identities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from deattrib.corpus.types import Example
from deattrib.methods.base import Method
from deattrib.ppo.losses import token_kl
from deattrib.ppo.reference import Reference
from deattrib.ppo.search import Span


class NameSwap(Method):
    """Distillation from the name-swapped original model on forget answers."""

    name = "name-swap"
    splits = True
    search = {"retain_weight": Span(0.1, 10.0)}

    class Params(Method.Params):
        """Weights of the name-swap distillation."""

        retain: Literal["none", "loss", "kl"] = Field("kl", description="KL from the original model on retain answers.")

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.swapped = Reference(
            "counterfactual",
            policy=self.policy,
            base=None,
            identities=self.corpus.identities,
            retain_owners=self.corpus.retain_owners,
        )

    def forget_loss(self, rows: Sequence[Example]) -> Tensor:
        batch = self.encode(rows)
        owners = [row.owner for row in rows]
        others = self.processes.mine(self.swapped.draw([row.owner for row in self.whole_of(rows)], self.rng))
        target = self.swapped.logits([row.prompt for row in rows], owners, batch, others)
        return self.token_mean(token_kl(target, self.logits(batch)), batch.response_mask)
