"""Which rows come next, and rows that nobody had to write.

Endless shuffled passes whose position is two integers, so that a resumed run draws the same rows; words left out.
Other owners' questions with the names swapped would be phrasings for free, and are deliberately not made: where owners
are asked alike they are the very phrasings that an evaluation holds out.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from deattrib.corpus.types import Example
from deattrib.models.batch import TokenBatch
from deattrib.models.identities import name_pattern, name_token_mask
from deattrib.models.language_model import Codec

T = TypeVar("T")
START, NAME = -1, -2  # stand before a response's first token, and for a token of anybody's name


class Cycle(Generic[T]):
    """Draws without replacement, pass after pass; the order of a pass follows from (seed, pass).

    Attributes:
        epoch: completed passes.
        position: rows drawn in the current pass.
    """

    def __init__(self, items: Sequence[T], *, seed: str) -> None:
        if not items:
            raise ValueError("Cycle needs at least one item.")
        self.items = tuple(items)
        self.seed = seed
        self.epoch = 0
        self.position = 0
        self._order = self._shuffled()

    def _shuffled(self) -> list[int]:
        order = list(range(len(self.items)))
        random.Random(f"{self.seed}/{self.epoch}").shuffle(order)
        return order

    def draw(self, count: int) -> list[T]:
        """The next `count` items; a new pass begins wherever the old one ends."""
        drawn = []
        for _ in range(count):
            if self.position == len(self.items):
                self.epoch, self.position = self.epoch + 1, 0
                self._order = self._shuffled()
            drawn.append(self.items[self._order[self.position]])
            self.position += 1
        return drawn

    @property
    def drawn(self) -> int:
        """Rows drawn so far, over all passes."""
        return self.epoch * len(self.items) + self.position

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state["epoch"] != self.epoch:
            self.epoch = state["epoch"]
            self._order = self._shuffled()
        self.position = state["position"]


def minibatches(rows: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """Row numbers in random parts of a size; all in order where that is one part."""
    if size >= rows:
        return [torch.arange(rows)]
    return list(torch.randperm(rows, generator=generator).split(size))


def plain_state(rng: random.Random) -> list[Any]:
    """The random state as JSON has it."""
    version, internal, gauss = rng.getstate()
    return [version, list(internal), gauss]


def set_plain_state(rng: random.Random, state: Sequence[Any]) -> None:
    """Put back what `plain_state` gave."""
    version, internal, gauss = state
    rng.setstate((version, tuple(internal), gauss))


def thin(text: str, share: float, rng: random.Random, *, names: tuple[str, ...] = ()) -> str:
    """Every other time, a text with words left out, so that what is learnt on it does not only hold in the trained sentence.

    Up to `share` of its words go (a name stays, and counts as one word), and half of the time all before some place.
    At least one word is kept.
    """
    if share == 0 or rng.random() < 0.5:
        return text
    pattern = name_pattern(names)
    spans = [match.span() for match in pattern.finditer(text)] if pattern else []
    share = share * rng.random()
    words: list[str] = []
    position = 0
    for match in re.finditer(r"\S+", text):
        if match.start() < position:
            continue  # belongs to the name before it
        touched = [stop for start, stop in spans if match.start() < stop and match.end() > start]
        end = re.compile(r"\S*").match(text, max(match.end(), *touched) if touched else match.end())
        position = end.end() if end else match.end()
        if touched or rng.random() >= share:
            words.append(text[match.start() : position])
    start = rng.randrange(len(words)) if words and rng.random() < 0.5 else 0
    return " ".join(words[start:]) or text


def graft(text: str, frame: str, rng: random.Random) -> tuple[str, int]:
    """The end of a text behind the beginning of another, each cut between two words; and where the text's own part begins."""
    words, begun = text.split(), frame.split()
    own = " ".join(words[rng.randrange(len(words)) :])
    before = " ".join(begun[: rng.randrange(len(begun) + 1)])
    return (f"{before} {own}", len(before)) if before else (own, 0)


@dataclass(frozen=True, slots=True)
class Shared:
    """Pairs of neighbouring tokens that retain owners' answers have too: what is said with them is nobody's alone.

    A name counts as one and the same token whoever it names, and is always shared.
    """

    codec: Codec
    names: tuple[str, ...]
    pairs: frozenset[tuple[int, int]]

    @classmethod
    def of_answers(cls, codec: Codec, texts: Sequence[str], names: tuple[str, ...] = ()) -> Shared:
        shared = cls(codec, names, frozenset())
        ids = [codec.response(text) for text in texts]
        rows = shared._anonymous(TokenBatch.from_lists([[codec.pad_id]] * len(ids), ids, codec.pad_id)) if ids else []
        return cls(codec, names, frozenset(pair for ids in rows for pair in itertools.pairwise([START, *ids])))

    def of(self, batch: TokenBatch) -> Tensor:
        """[B, T] bool on the batch's device: the token and the one before it are such a pair, or it is part of a name."""
        mask = torch.zeros(batch.response_ids.shape, dtype=torch.bool)
        for row, ids in enumerate(self._anonymous(batch.to("cpu"))):
            known = [pair[1] == NAME or pair in self.pairs for pair in itertools.pairwise([START, *ids])]
            mask[row, : len(ids)] = torch.tensor(known)
        return mask.to(batch.response_ids.device)

    def _anonymous(self, batch: TokenBatch) -> list[list[int]]:
        inside = name_token_mask(self.codec, batch, self.names)
        ids = batch.response_ids.masked_fill(inside, NAME)
        return [row[:length] for row, length in zip(ids.tolist(), batch.response_lengths.tolist(), strict=True)]


def answered(rows: Sequence[Example], texts: Sequence[str]) -> tuple[Example, ...]:
    """The rows with these answers; those without text are left out."""
    return tuple(replace(row, response=text) for row, text in zip(rows, texts, strict=True) if text)
