"""Which rows come next: endless shuffled passes whose position is two integers, so that a resumed run draws the same rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


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
        self.epoch, self.position = state["epoch"], state["position"]
        self._order = self._shuffled()
