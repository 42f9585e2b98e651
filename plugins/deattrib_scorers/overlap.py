"""Attribution by copied text: how much of a response stands word for word in the owner's answers.

Two measures, both in [0, 1], both running sums over the tokens of the response, so that all prefixes cost one pass:

- `ngrams`: share of the response's token n-grams that occur in an answer of the owner. With `rare` (our addition) an
  n-gram that k of N owners have counts log(N / k) / log N, so that phrases which everybody uses count for nobody
  (inverse document frequency, Spärck Jones 1972, with owners as documents).
- `longest`: the longest run of tokens that stands in one answer of the owner, as a share of the response. The longest match
  that ends at each token (its matching statistic, Chang and Lawler 1994) comes from a suffix automaton of the owner's
  answers (Blumer et al. 1985) in time proportional to the response.

Overlap reads no model. It cannot see a fact that is told in other words: a policy that paraphrases is rewarded in full,
which makes it a control for how much of a result is mere rewording, and a poor reward alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from pydantic import Field
from torch import Tensor

from deattrib import Rows, Scorer, ScorerContext, ScorerError, hookimpl
from deattrib_scorers._answers import answers_alone, kept_tokens

BETWEEN = -1  # stands between two answers of an owner; no token of a response is ever below 0


class Overlap(Scorer):
    """Share of a response that stands word for word in the owner's answers."""

    name = "overlap"
    fidelity = "proxy"

    class Params(Scorer.Params):
        """Settings of `overlap`."""

        measure: str = Field("ngrams", pattern="^(ngrams|longest)$", description="'ngrams', or the 'longest' common run.")
        order: int = Field(3, ge=1, description="ngrams: tokens of an n-gram.")
        rare: bool = Field(True, description="ngrams: what many owners say counts less; false: every n-gram counts 1.")
        mask_names: bool = Field(True, description="Leave out the owners' names; false: keep them.")

    def fit(self, context: ScorerContext) -> None:
        self.context = context
        answers = {owner: self._kept_ids(answers_alone(context, texts)) for owner, texts in context.texts_by_owner.items()}
        if self.params.measure == "longest":
            self.automata = {owner: SuffixAutomaton(_joined(ids)) for owner, ids in answers.items()}
            return
        self.grams = {
            owner: {gram for ids in lists for gram in ngrams(ids, self.params.order)} for owner, lists in answers.items()
        }
        owned: dict[tuple[int, ...], int] = {}
        for grams in self.grams.values():
            for gram in grams:
                owned[gram] = owned.get(gram, 0) + 1
        scale = math.log(len(self.grams)) if self.params.rare and len(self.grams) > 1 else 0.0
        self.weights = {gram: math.log(len(self.grams) / k) / scale if scale else 1.0 for gram, k in owned.items()}

    # -- scores -------------------------------------------------------------------------------------------------------
    def score(self, rows: Rows) -> Tensor:
        return self.score_prefixes(rows, rows.batch.response_lengths.cpu()[:, None])[:, 0]

    def score_prefixes(self, rows: Rows, ends: Tensor) -> Tensor:
        keep = self._keep(rows)
        return self._shares(self._found(rows, keep, rows.owners), keep, ends.cpu())

    def score_tokens(self, rows: Rows) -> Tensor:
        """[B, T]: what each token adds to the score: the n-gram that it completes, or the longest run that it lengthens."""
        keep = self._keep(rows)
        return self._found(rows, keep, rows.owners) / self._most(keep.sum(1, keepdim=True))

    def score_owners(self, rows: Rows, owners: Sequence[str]) -> Tensor:
        keep, ends = self._keep(rows), rows.batch.response_lengths.cpu()[:, None]
        columns = [self._shares(self._found(rows, keep, [owner] * len(rows)), keep, ends) for owner in owners]
        return torch.cat(columns, 1)

    def _shares(self, found: Tensor, keep: Tensor, ends: Tensor) -> Tensor:
        """found, keep [B, T], ends [B, k] -> what was found in each prefix, over what could have been: [B, k]."""
        sums, counts = (torch.nn.functional.pad(part.cumsum(1), (1, 0)).gather(1, ends) for part in (found, keep.float()))
        return sums / self._most(counts)

    def _most(self, counts: Tensor) -> Tensor:
        """What could be found in so many kept tokens, at least 1."""
        return (counts - (self.params.order - 1 if self.params.measure == "ngrams" else 0)).clamp(min=1)

    def _found(self, rows: Rows, keep: Tensor, owners: Sequence[str]) -> Tensor:
        """[B, T] in [0, 1], 0 where not kept."""
        found = torch.zeros(keep.shape)
        for row, (ids, owner) in enumerate(zip(self._kept_ids(rows, keep), owners, strict=True)):
            if owner not in self.context.rows_by_owner:
                raise ScorerError(f"overlap has no answers of owner {owner!r}; it knows {len(self.context.owners)} owners.")
            found[row, keep[row]] = torch.tensor(list(self._steps(ids, owner)), dtype=torch.float32)
        return found

    def _steps(self, ids: Sequence[int], owner: str) -> Iterator[float]:
        """What each token of `ids` adds."""
        if self.params.measure == "longest":
            longest = 0
            for length in self.automata[owner].matches(ids):
                yield float(length > longest)
                longest = max(longest, length)
            return
        grams = self.grams[owner]
        yield from [0.0] * min(self.params.order - 1, len(ids))
        for gram in ngrams(ids, self.params.order):
            yield self.weights[gram] if gram in grams else 0.0

    # -- tokens -------------------------------------------------------------------------------------------------------
    def _keep(self, rows: Rows) -> Tensor:
        return kept_tokens(self.context, rows, mask_names=self.params.mask_names)

    def _kept_ids(self, rows: Rows, keep: Tensor | None = None) -> list[list[int]]:
        """Kept tokens of each response, closed up over what is left out, in the owners' answers as in responses."""
        keep = self._keep(rows) if keep is None else keep
        return [ids[mask].tolist() for ids, mask in zip(rows.batch.response_ids.cpu(), keep, strict=True)]


class SuffixAutomaton:
    """All substrings of a sequence, in as many states as it has tokens, twice at most.

    Args:
        ids: the sequence; any integers.
    """

    def __init__(self, ids: Iterable[int]) -> None:
        self.next: list[dict[int, int]] = [{}]
        self.link, self.length = [-1], [0]
        last = 0
        for token in ids:
            last = self._extend(last, token)

    def _extend(self, last: int, token: int) -> int:
        new, state = self._state({}, -1, self.length[last] + 1), last
        while state >= 0 and token not in self.next[state]:
            self.next[state][token] = new
            state = self.link[state]
        if state < 0:
            self.link[new] = 0
            return new
        target = self.next[state][token]
        if self.length[target] == self.length[state] + 1:
            self.link[new] = target
            return new
        copy = self._state(dict(self.next[target]), self.link[target], self.length[state] + 1)
        while state >= 0 and self.next[state].get(token) == target:
            self.next[state][token] = copy
            state = self.link[state]
        self.link[target] = self.link[new] = copy
        return new

    def _state(self, following: dict[int, int], link: int, length: int) -> int:
        self.next.append(following)
        self.link.append(link)
        self.length.append(length)
        return len(self.next) - 1

    def matches(self, ids: Iterable[int]) -> Iterator[int]:
        """For each token of `ids`: the longest run ending with it that is a substring of the sequence."""
        state = length = 0
        for token in ids:
            while state and token not in self.next[state]:
                state = self.link[state]
                length = self.length[state]
            if token in self.next[state]:
                state, length = self.next[state][token], length + 1
            yield length


def ngrams(ids: Sequence[int], order: int) -> Iterator[tuple[int, ...]]:
    """Consecutive runs of `order` tokens."""
    return (tuple(ids[start : start + order]) for start in range(len(ids) - order + 1))


def _joined(lists: Iterable[Sequence[int]]) -> list[int]:
    return [token for ids in lists for token in (*ids, BETWEEN)]


@hookimpl
def scorers() -> Sequence[type[Scorer]]:
    return [Overlap]
