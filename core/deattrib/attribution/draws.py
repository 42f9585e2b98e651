"""Whom else a question is asked about: the other retain owners, in an order of their own for each question."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache


def other_owners(owners: Sequence[str], forget_owners: Collection[str], *, seed: int) -> Callable[[str, str], list[str]]:
    """(owner, prompt) -> every retain owner but that one, shuffled by (seed, owner, prompt); the last 1024 are kept."""
    forgotten = set(forget_owners)
    retained = [name for name in owners if name not in forgotten]

    @lru_cache(maxsize=1024)
    def others(owner: str, prompt: str) -> list[str]:
        options = [name for name in retained if name != owner]
        random.Random(f"{seed}/{owner}/{prompt}").shuffle(options)
        return options

    return others
