"""A scorer that wraps another one: its scores, clipped to the range in which most known answers lie.

    deattrib check examples/clipped_scorer.py:Clipped --param scorer=membership
    deattrib demo --reward examples/clipped_scorer.py:Clipped

A likelihood ratio has long tails, and a policy that chases the tail of a score games it. Here what lies beyond the given
quantiles of the owners' own answers (asked about their owner, and about another one) earns nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from deattrib import Rows, Scorer, ScorerContext, make_scorer

if TYPE_CHECKING:
    from torch import Tensor


class Clipped(Scorer):
    """Another scorer's scores, clipped to the range of most known answers."""

    name = "clipped"
    fidelity = "proxy"

    class Params(Scorer.Params):
        """Settings of `clipped`."""

        scorer: str | dict[str, Any] = Field("classifier", description="The wrapped scorer: a name, or {name, **settings}.")
        share: float = Field(0.05, ge=0, lt=0.5, description="Share of the known answers beyond the range on either side.")

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.inner = make_scorer(self.params.scorer)  # from the registry that makes this one, with its settings checked

    def fit(self, context: ScorerContext) -> None:
        import torch

        from deattrib import GuardedScorer

        self.guard = GuardedScorer(self.inner, codec=context.codec)  # brings what the wrapped scorer does not override
        self.guard.fit(context)
        self.owner_free = self.inner.owner_free
        owners = list(context.owners)
        following = dict(zip(owners, [*owners[1:], owners[0]], strict=True))
        examples = [row for rows in context.rows_by_owner.values() for row in rows]
        rows = Rows.from_texts(
            context.codec, [row.prompt for row in examples], [row.response for row in examples], [row.owner for row in examples]
        )
        about_others = rows.about([following[owner] for owner in rows.owners])
        known = torch.cat([self.guard.score(rows), self.guard.score(about_others)])
        self.low, self.high = known.quantile(torch.tensor([self.params.share, 1 - self.params.share])).tolist()

    def score(self, rows: Rows) -> Tensor:
        return self.guard.score(rows).clamp(self.low, self.high)

    def score_prefixes(self, rows: Rows, ends: Tensor) -> Tensor:
        return self.guard.score_prefixes(rows, ends).clamp(self.low, self.high)

    def score_owners(self, rows: Rows, owners: Sequence[str]) -> Tensor:
        return self.guard.score_owners(rows, owners).clamp(self.low, self.high)

    def close(self) -> None:
        self.inner.close()
