"""Adding up the gradients of each owner's rows, which is what fitting a gradient-linear scorer begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

from deattrib import ScorerContext, TokenBatch
from deattrib_scorers._factors import Factors

Summed = dict[str, Tensor]


def owner_batches(context: ScorerContext, size: int) -> Iterator[tuple[int, TokenBatch]]:
    """(number of the owner, some of its rows), rows of similar length together."""
    for number, examples in enumerate(context.rows_by_owner.values()):
        ordered = sorted(examples, key=lambda row: len(row.prompt) + len(row.response))
        for start in range(0, len(ordered), size):
            some = ordered[start : start + size]
            batch = context.codec.encode([row.prompt for row in some], [row.response for row in some])
            yield number, batch.to(context.device)


def add_up(
    totals: list[Summed],
    number: int,
    factors: Factors,
    row_weights: Tensor,
    outs: Mapping[str, int],
    reduce: Callable[[str, Factors, Tensor], Tensor] | None = None,
) -> None:
    """Add the weighted sum of some rows' gradients to one owner's, by name: vectors [L], matrices [L, R] or `reduce`d."""
    mine = totals[number]
    for name in factors.pairs:
        value = factors.summed(name, outs[name], row_weights) if reduce is None else reduce(name, factors, row_weights)
        mine[name] = mine[name] + value if name in mine else value
    for name, vector in factors.vectors.items():
        value = row_weights.to(vector) @ vector
        mine[name] = mine[name] + value if name in mine else value


def response_means(batch: TokenBatch, exponent: float = 1.0) -> Callable[[Tensor], Tensor]:
    """Token weights T^-exponent, which at 1 make a sum over the response a mean over it."""

    def weigh(log_probs: Tensor) -> Tensor:
        return (1.0 / batch.response_lengths.clamp(min=1).to(log_probs) ** exponent)[:, None].expand_as(log_probs)

    return weigh
