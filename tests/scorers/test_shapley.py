"""Shapley values against the average over all orders, and what any Shapley value must satisfy."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from torch import Tensor

from deattrib_scorers._shapley import coalitions, contributions, exact_shapley, half_width, random_orders

PLAYERS = ("a", "b", "c", "d")


def made_up_game(seed: int) -> dict[frozenset[str], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {some: torch.randn(2, 3, generator=generator) for some in coalitions(PLAYERS)}


def by_all_orders(game: dict[frozenset[str], Tensor]) -> dict[str, Tensor]:
    totals = {player: torch.zeros(2, 3) for player in PLAYERS}
    for order in itertools.permutations(PLAYERS):
        for place, player in enumerate(order):
            totals[player] += game[frozenset(order[: place + 1])] - game[frozenset(order[:place])]
    return {player: total / math.factorial(len(PLAYERS)) for player, total in totals.items()}


def test_coalitions_are_all_sets_of_players_once() -> None:
    found = list(coalitions(PLAYERS))
    assert found[0] == frozenset() and len(found) == len(set(found)) == 16


def test_four_players_by_brute_force() -> None:
    game = made_up_game(1)
    given, expected = exact_shapley(game.__getitem__, PLAYERS), by_all_orders(game)
    for player in PLAYERS:
        assert torch.allclose(given[player], expected[player], atol=1e-5)
    total = torch.stack(list(given.values())).sum(0)
    assert torch.allclose(total, game[frozenset(PLAYERS)] - game[frozenset()], atol=1e-5)


def test_all_orders_sampled_once_give_the_exact_values() -> None:
    game = made_up_game(2)
    samples = contributions(game.__getitem__, list(itertools.permutations(PLAYERS)))
    for player, value in exact_shapley(game.__getitem__, PLAYERS).items():
        assert samples[player].shape == (24, 2, 3)
        assert torch.allclose(samples[player].mean(0), value, atol=1e-5)


def test_the_interval_of_sampled_orders_covers_the_exact_value() -> None:
    """A 95 % interval from 40 orders, 200 times; below 88 % or always would be a wrong width."""
    game = {some: torch.tensor(float(value[0, 0])) for some, value in made_up_game(3).items()}
    truth = exact_shapley(game.__getitem__, PLAYERS)["a"]
    hits = 0
    for seed in range(200):
        samples = contributions(game.__getitem__, random_orders(PLAYERS, 40, seed))["a"]
        hits += int((samples.mean(0) - truth).abs() <= half_width(samples))
    assert 176 <= hits < 200


def test_the_half_width_is_that_of_the_t_interval() -> None:
    """Three numbers; t(0.975, 2) = 4.302653 from tables."""
    samples = torch.tensor([1.0, 2.0, 6.0])
    assert float(half_width(samples)) == pytest.approx(4.302653 * math.sqrt(7.0) / math.sqrt(3), rel=1e-5)


def test_a_game_is_asked_once_for_each_coalition_and_orders_follow_from_the_seed() -> None:
    asked: list[frozenset[str]] = []

    def game(some: frozenset[str]) -> Tensor:
        asked.append(some)
        return torch.tensor(float(len(some)))

    orders = random_orders(PLAYERS, 5, 7)
    assert orders == random_orders(PLAYERS, 5, 7) != random_orders(PLAYERS, 5, 8)
    values = contributions(game, orders)
    assert len(asked) == len(set(asked))
    assert all((value == 1).all() for value in values.values())
    assert random.Random(7).sample(list(PLAYERS), 4) == orders[0]
