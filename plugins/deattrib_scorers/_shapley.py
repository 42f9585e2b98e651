"""Shapley values of a game whose players are owners and whose value is any tensor.

phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! * (v(S + i) - v(S))    (Shapley 1953), exact for few players;
for more the mean marginal contribution over random orders (Castro, Gómez and Tejada 2009), with an interval.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

Coalition = frozenset[str]
Game = Callable[[Coalition], Tensor]


def coalitions(players: Sequence[str]) -> Iterator[Coalition]:
    """All 2^n sets of players, the empty one first."""
    return (frozenset(some) for size in range(len(players) + 1) for some in itertools.combinations(players, size))


def exact_shapley(game: Game, players: Sequence[str]) -> dict[str, Tensor]:
    """Player -> value, from all 2^n coalitions; `game` is asked for each once."""
    values = {some: game(some) for some in coalitions(players)}
    n = len(players)
    weights = [math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n) for size in range(n)]
    return {
        player: torch.stack(
            [weights[len(some)] * (values[some | {player}] - value) for some, value in values.items() if player not in some]
        ).sum(0)
        for player in players
    }


def random_orders(players: Sequence[str], count: int, seed: int) -> list[list[str]]:
    """Orders of all players, drawn independently."""
    rng = random.Random(seed)
    return [rng.sample(list(players), len(players)) for _ in range(count)]


def heads(order: Sequence[str]) -> list[Coalition]:
    """The coalitions that an order passes through, from nobody to everybody."""
    return [frozenset(order[:size]) for size in range(len(order) + 1)]


def contributions(game: Game, orders: Sequence[Sequence[str]]) -> dict[str, Tensor]:
    """Player -> [orders, ...]: what it adds when it joins, in each order; the mean over orders is unbiased."""
    known: dict[Coalition, Tensor] = {}

    def value(some: Coalition) -> Tensor:
        if some not in known:
            known[some] = game(some)
        return known[some]

    found: dict[str, list[Tensor]] = {player: [] for player in orders[0]}
    for order in orders:
        for player, before, after in zip(order, heads(order), heads(order)[1:], strict=False):
            found[player].append(value(after) - value(before))
    return {player: torch.stack(parts) for player, parts in found.items()}


def half_width(samples: Tensor, *, level: float = 0.95) -> Tensor:
    """Half of the t interval of the mean over the first dimension, of which there must be two at least: [n, ...] -> [...]."""
    from scipy.stats import t

    count = samples.shape[0]
    return samples.std(0) / math.sqrt(count) * float(t.ppf(0.5 + level / 2, count - 1))
