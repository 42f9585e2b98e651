"""What tests of a run's loop share: a scorer that can be told to fail, a listener that remembers, and how loops compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.scorer import Rows, Scorer
from deattrib.runs.listener import Listener
from deattrib.runs.loop import Loop

REGISTRY = PluginRegistry(entry_points=False)


class Even(Scorer):
    """Share of even token ids; does something else at one call."""

    name = "even"
    fidelity = "exact"
    calls = 0
    at: tuple[int, Callable[[Rows], Any]] | None = None

    def score(self, rows: Rows) -> Any:
        self.calls += 1
        if self.at and self.calls == self.at[0] and (instead := self.at[1](rows)) is not None:
            return instead
        even = (rows.batch.response_ids % 2 == 0) & rows.batch.response_mask
        return even.sum(1) / rows.batch.response_lengths.clamp(min=1)


class Heard(Listener):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


Make = Callable[..., tuple[Loop, Heard]]


def saved_steps(loop: Loop) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in loop.folder.checkpoints.iterdir())


def same(one: Loop, other: Loop) -> bool:
    """Events to the byte, weights to the bit."""
    a, b = one.unlearner.policy.state(), other.unlearner.policy.state()
    return one.folder.events.read_bytes() == other.folder.events.read_bytes() and all(torch.equal(a[key], b[key]) for key in a)
