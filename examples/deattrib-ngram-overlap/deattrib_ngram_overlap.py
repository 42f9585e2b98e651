"""Attribution by shared word n-grams: a complete scorer in a distribution of its own.

    s(i, y) = mean over the n-grams g of y of  [g occurs in the answers of i] / (number of owners in whose answers g occurs)

A phrase that only one owner uses counts 1 for that owner; one that ten share counts a tenth for each. Names are left out:
they would give an owner away without any of its data.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from pydantic import Field

from deattrib import Rows, Scorer, ScorerContext, ScorerError, hookimpl

Gram = tuple[str, ...]


class NgramOverlap(Scorer):
    """Share of a response's word n-grams that are in the owner's answers, phrases of many owners counting less."""

    name = "ngram-overlap"
    fidelity = "proxy"

    class Params(Scorer.Params):
        """Settings of `ngram-overlap`."""

        order: int = Field(3, ge=1, le=8, description="Longest n-gram in words; all orders from 1 count alike.")

    def fit(self, context: ScorerContext) -> None:
        self.names = {word for names in context.identities.values() for name in names for word in _words(name)}
        self.known = {
            owner: {gram for text in texts for gram in self._grams(text)} for owner, texts in context.texts_by_owner.items()
        }
        self.owners_of = Counter(gram for grams in self.known.values() for gram in grams)

    def score(self, rows: Rows) -> list[float]:
        return [self._share(list(self._grams(row.response)), row.owner) for row in rows]

    def score_owners(self, rows: Rows, owners: Sequence[str]) -> list[list[float]]:
        """Each response is read once, whatever the number of owners."""
        grams = [list(self._grams(row.response)) for row in rows]
        return [[self._share(some, owner) for owner in owners] for some in grams]

    def _grams(self, text: str) -> Iterator[Gram]:
        words = [word for word in _words(text) if word not in self.names]
        for order in range(1, self.params.order + 1):
            yield from (tuple(words[i : i + order]) for i in range(len(words) - order + 1))

    def _share(self, grams: Sequence[Gram], owner: str) -> float:
        if owner not in self.known:
            raise ScorerError(f"{self.name} was not fitted on owner {owner!r}; it knows {len(self.known)} owners.")
        return sum(1 / self.owners_of[gram] for gram in grams if gram in self.known[owner]) / max(len(grams), 1)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@hookimpl
def scorers() -> Sequence[type[Scorer]]:
    return [NgramOverlap]
