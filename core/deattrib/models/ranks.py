"""Who takes part in one run: a single process, or several that hold the same weights and share every batch between them.

`ProcessGroup` is the single process: every method is the identity, and nothing is paid for it. Several processes are
`deattrib.models.processes.Processes`, made once by whoever starts the run and passed on by hand from there.

The rule that makes N processes give the numbers of one: everything that is drawn (rows, names, words left out, uniform
numbers) is drawn for the whole batch by every process alike, each keeps its own rows, and every mean is a sum over own
rows divided by the count of the whole batch, so that gradients and figures add up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from deattrib.models.launched import several_in_environment, taken_from_environment

T = TypeVar("T")


class ProcessGroup:
    """One process.

    Attributes:
        rank: number of this process, from 0; 0 leads: it alone writes and prints.
        size: number of processes.
        last_words: called with the reason where another process has failed and this one cannot be reached (it waits inside
            a library), just before it is ended.
    """

    rank = 0
    size = 1
    last_words: Callable[[str], None] = staticmethod(lambda reason: None)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes the run's folder and prints."""
        return self.rank == 0

    # -- rows ---------------------------------------------------------------------------------------------------------
    def own(self, count: int) -> slice:
        """Which of `count` rows are this process'; sizes differ by one at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """This process' part of a whole batch."""
        return items if self.size == 1 else items[self.own(len(items))]

    def uniform(self, count: int, generator: torch.Generator) -> Tensor:
        """Own part of `count` uniform numbers in [0, 1), of which all are drawn: [own rows] float32 on the CPU."""
        numbers = torch.rand(count, generator=generator)
        return numbers if self.size == 1 else numbers[self.own(count)]

    def joined(self, values: Tensor) -> Tensor:
        """The whole batch from everybody's rows: [own rows, ...] -> [all rows, ...], in the order of the batch."""
        return values

    # -- numbers ------------------------------------------------------------------------------------------------------
    def sum(self, value: Tensor) -> Tensor:
        """Sum over the processes, without a gradient."""
        return value

    def any(self, flag: bool) -> bool:
        """Whether it holds in any process."""
        return flag

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        """Put the sum of all processes' gradients into every process' `grad`."""

    def figures(self, values: dict[str, float], *, largest: frozenset[str] = frozenset()) -> dict[str, float]:
        """Figures of the whole batch from everybody's shares: sums, but the maximum of those in `largest`."""
        return values

    def same(self, parameters: Sequence[nn.Parameter]) -> None:
        """Raises RunError where the processes do not hold the same weights any more."""

    # -- turns --------------------------------------------------------------------------------------------------------
    def gather(self, value: T) -> list[T]:
        """Everybody's value, by rank."""
        return [value]

    def together(self, function: Callable[[], T]) -> list[T]:
        """Everybody's result of its own call, by rank; an error in one is raised in all. The call must not talk to others."""
        return [function()]

    def share(self, function: Callable[[], T]) -> T:
        """The leader's result, given to all, however long it takes; an error there is raised in all."""
        return function()

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Inside, the leader is done before the others begin: they find in caches what it made."""
        yield

    def explain(self, error: BaseException) -> BaseException:
        """The reason behind an error: where another process has failed, what it said, else the error itself."""
        return error

    def __repr__(self) -> str:
        return f"process {self.rank} of {self.size}"

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(self, *_error: object) -> None:
        return None


ALONE = ProcessGroup()


def open_processes() -> ProcessGroup:
    """The processes that a launcher has started together, or this one alone."""
    if several_in_environment() == 1:
        if os.environ.get("WORLD_SIZE") == "1":
            taken_from_environment()
        return ALONE
    from deattrib.models.processes import Processes

    return Processes.from_environment()
