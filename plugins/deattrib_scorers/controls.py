"""Controls: rewards that carry no information about the row's owner, on purpose.

What a run reaches with one of these is what its reference, its retain loss and plain noise do by themselves; only the rest
is the merit of a scorer. `none`, `constant` and `random` give attributions in [0, 1] as they are and are not calibrated;
`shuffled-owner` gives true scores, about somebody else, on the wrapped scorer's own scale.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from deattrib import Rows, Scorer, ScorerContext, ScorerError, hookimpl, make_scorer


class NoReward(Scorer):
    """Attribution 0 for every row: the run without a reward."""

    name = "none"
    fidelity = "control"

    def score(self, rows: Rows) -> Any:
        return [0.0] * len(rows)

    def score_prefixes(self, rows: Rows, ends: Any) -> Any:
        return ends * 0.0


class Constant(Scorer):
    """The same attribution for every row: a reward without differences."""

    name = "constant"
    fidelity = "control"

    class Params(Scorer.Params):
        """Settings of `constant`."""

        value: float = Field(0.5, ge=0, le=1, description="The attribution of every row.")

    def score(self, rows: Rows) -> Any:
        return [self.params.value] * len(rows)

    def score_prefixes(self, rows: Rows, ends: Any) -> Any:
        return ends * 0.0 + self.params.value


class Random(Scorer):
    """Attribution drawn from [0, 1), fixed by seed, prompt, response and owner."""

    name = "random"
    fidelity = "control"
    seed = 0

    def fit(self, context: ScorerContext) -> None:
        self.seed = context.seed

    def score(self, rows: Rows) -> Any:
        return [self._draw(row.prompt, row.response, row.owner) for row in rows]

    def _draw(self, *parts: str) -> float:
        # A digest, not a generator: the number of a row must not depend on the rows around it or on the order of calls.
        digest = hashlib.sha256(json.dumps([self.seed, *parts]).encode()).digest()
        return int.from_bytes(digest[:3], "big") / 2**24  # 24 bits: exact as float32, so never rounded up to 1


class ShuffledOwner(Scorer):
    """Another scorer's scores, asked about the wrong owner; who stands in for whom is fixed by the seed."""

    name = "shuffled-owner"
    fidelity = "control"

    class Params(Scorer.Params):
        """Settings of `shuffled-owner`."""

        scorer: str | dict[str, Any] = Field("classifier", description="The wrapped scorer: a name, or {name, **settings}.")

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.inner = make_scorer(self.params.scorer)

    def fit(self, context: ScorerContext) -> None:
        from deattrib import GuardedScorer  # here, because it loads torch: listing plugins must stay quick

        self.stand_in = stand_ins(context.owners, context.forget_owners, context.seed)
        # The guard brings the engine's fallbacks for what the wrapped scorer leaves out.
        self.guard = GuardedScorer(self.inner, codec=context.codec)
        self.guard.fit(context)

    def score(self, rows: Rows) -> Any:
        return self.guard.score(rows.about(self._others(rows.owners)))

    def score_prefixes(self, rows: Rows, ends: Any) -> Any:
        return self.guard.score_prefixes(rows.about(self._others(rows.owners)), ends)

    def score_owners(self, rows: Rows, owners: Sequence[str]) -> Any:
        return self.guard.score_owners(rows, self._others(owners))

    def calibrate_as(self) -> Scorer:
        return self.inner.calibrate_as()

    def close(self) -> None:
        self.inner.close()

    def _others(self, owners: Sequence[str]) -> list[str]:
        unknown = [owner for owner in owners if owner not in self.stand_in]
        if unknown:
            raise ScorerError(f"owner {unknown[0]!r} was not among the {len(self.stand_in)} owners at fit: nobody stands in.")
        return [self.stand_in[owner] for owner in owners]


def stand_ins(owners: Sequence[str], forget_owners: Sequence[str], seed: int) -> dict[str, str]:
    """Owner -> another owner, one to one, fixed by the seed.

    Wherever there are enough retain owners, nobody forgotten stands in for somebody forgotten: the control would
    otherwise still reward forgetting one of them.
    """
    if len(owners) < 2:
        raise ScorerError(f"shuffled-owner needs at least two owners, the corpus has {len(owners)}.")
    generator = random.Random(seed)
    forgotten = generator.sample(sorted(set(forget_owners)), len(set(forget_owners)))
    retained = generator.sample(sorted(set(owners) - set(forgotten)), len(owners) - len(forgotten))
    # One cycle through everybody, each forgotten owner followed by a retained one as long as there are any.
    cycle: list[str] = []
    for owner in forgotten:
        cycle += [owner, *retained[:1]]
        del retained[:1]
    cycle += retained
    return dict(zip(cycle, [*cycle[1:], cycle[0]], strict=True))


@hookimpl
def scorers() -> list[type[Scorer]]:
    return [NoReward, Constant, Random, ShuffledOwner]
