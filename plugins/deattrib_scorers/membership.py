"""Membership by likelihood ratio: how much likelier the original model finds a response than a reference does.

    s(y) = 1/T * sum_t log pi_N(y_t | q, y_<t) - log pi_ref(y_t | q', y'_<t)

With the `counterfactual` reference q' is the same question about a retain owner (names swapped in question and
response, name tokens left out): the same model, so what is left of the ratio is what it knows of *this* owner. It needs
no training. With `base` the reference is the model before it was trained on the owners, or any model of the same tokenizer
given as a folder. `both` takes the likelier of the two at each token: what the other owners' question or the base model
explains is nobody's in particular. The ratio is the reference-based membership score of Carlini et al. (2021, Extracting
Training Data from Large Language Models). Its relatives without a reference (loss, zlib, min-k, min-k++) are in
`deattrib_scorers.likelihood`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from deattrib import Rows, Scorer, ScorerContext, ScorerError, hookimpl
from deattrib_scorers._reference import find_reference


class Membership(Scorer):
    """Mean log-likelihood ratio per token between the original model and a model or question without the owner."""

    name = "membership"
    fidelity = "proxy"

    class Params(Scorer.Params):
        """Settings of `membership`."""

        reference: str = Field(
            "auto",
            description="'counterfactual', 'base', 'both' (token by token the likelier of these two), a model folder, or "
            "'auto': the first of the former two that is there.",
        )
        swaps: int = Field(2, ge=1, le=32, description="Retain owners that the counterfactual likelihood is averaged over.")
        bound: float = Field(5.0, gt=0, description="Largest ratio of one token in nats; single rare tokens then decide less.")

    def fit(self, context: ScorerContext) -> None:
        self.context = context
        wanted = self.params.reference
        self.kind, self.other = find_reference("base" if wanted == "both" else wanted, context, scorer=self.name)
        if wanted == "both" and not context.can_swap:
            raise ScorerError("membership: reference 'both' needs names per owner; without them take 'base'.")
        self.swaps = self.params.swaps if wanted == "both" or self.kind == "counterfactual" else 0
        self.owner_free = not self.swaps

    def score_tokens(self, rows: Rows) -> Tensor:
        """[B, T]: each token's log-likelihood ratio in nats; 0 at names and padding."""
        own = self.context.original.token_log_probs(rows.batch)
        other = self.other.token_log_probs(rows.batch) if self.other is not None else None
        if other is not None and not self.swaps:
            return (own - other).clamp(-self.params.bound, self.params.bound).cpu()
        level = torch.zeros_like(own)
        for draw in range(self.swaps):
            swapped = self.context.counterfactual_rows(rows, draw=draw)
            level += swapped.align(self.context.original.token_log_probs(swapped.batch)) / self.swaps
        if other is not None:
            level = torch.maximum(level, other)
        kept = swapped.kept.to(own.device)
        return ((own - level).clamp(-self.params.bound, self.params.bound) * kept).cpu()

    def score_prefixes(self, rows: Rows, ends: Tensor) -> Tensor:
        running = torch.nn.functional.pad(self.score_tokens(rows).cumsum(1), (1, 0))
        ends = ends.cpu()
        return running.gather(1, ends) / ends.clamp(min=1)

    def score(self, rows: Rows) -> Tensor:
        return self.score_prefixes(rows, rows.batch.response_lengths.cpu()[:, None])[:, 0]


@hookimpl
def scorers() -> Sequence[type[Scorer]]:
    return [Membership]
