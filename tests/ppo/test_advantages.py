"""Advantages against slow implementations of their definitions."""

from __future__ import annotations

import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deattrib.ppo.advantages import gae, group_scaled, leave_one_out, remaining_length, whiten
from deattrib.ppo.rollout import per_response
from deattrib.ppo.settings import PPOSettings

LENGTHS = [5, 1, 3]


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    return torch.randn(3, 5, generator=generator) * mask, torch.randn(3, 5, generator=generator) * mask, mask


def slow_gae(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """A_t = sum_l (gamma lambda)^l delta_{t+l}, delta_t = r_t + gamma V_{t+1} - V_t, V = 0 after the end."""
    n = len(rewards)
    delta = [rewards[t] + gamma * (values[t + 1] if t + 1 < n else 0.0) - values[t] for t in range(n)]
    return [sum((gamma * lam) ** (j - t) * delta[j] for j in range(t, n)) for t in range(n)]


@settings(deadline=None, max_examples=40)
@given(
    gamma=st.floats(0.5, 1),
    lam=st.floats(0, 1),
    seed=st.integers(0, 99),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_equals_the_definition(gamma: float, lam: float, seed: int, lengths: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    rewards, values = (torch.randn(mask.shape, generator=generator) * mask for _ in range(2))
    advantages, returns = gae(rewards, values, mask, gamma=gamma, lam=lam)
    for row, length in enumerate(lengths):
        expected = slow_gae(rewards[row, :length].tolist(), values[row, :length].tolist(), gamma, lam)
        assert advantages[row, :length].tolist() == pytest.approx(expected, abs=1e-4)
        assert (advantages[row, length:] == 0).all() and (returns[row, length:] == 0).all()
    assert torch.allclose(returns, (advantages + values) * mask)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_lambda_one_is_the_papers_return_less_the_value(batch: tuple[Tensor, Tensor, Tensor], gamma: float) -> None:
    rewards, values, mask = batch
    advantages, returns = gae(rewards, values, mask, gamma=gamma, lam=1.0)
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            total = sum(gamma**j * float(rewards[row, t + j]) for j in range(length - t))
            assert float(returns[row, t]) == pytest.approx(total, abs=1e-5)
            assert float(advantages[row, t]) == pytest.approx(total - float(values[row, t]), abs=1e-5)


def test_per_remaining_is_the_mean_of_what_is_left(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    rewards, values, mask = batch
    advantages, returns = gae(rewards, values, mask, lam=1.0, per_remaining=True)
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            mean = float(rewards[row, t:length].mean())
            assert float(returns[row, t]) == pytest.approx(mean, abs=1e-5)
            assert float(advantages[row, t]) == pytest.approx(mean - float(values[row, t]), abs=1e-5)


def test_per_remaining_does_not_pay_for_stopping_early() -> None:
    mask = torch.arange(10) < torch.tensor([2, 10])[:, None]
    rewards = -0.5 * mask
    means, _ = gae(rewards, torch.zeros_like(rewards), mask, per_remaining=True)
    sums, _ = gae(rewards, torch.zeros_like(rewards), mask)
    assert means[0, 0] == means[1, 0]
    assert sums[0, 0] > sums[1, 0]


def test_a_perfect_value_leaves_no_advantage() -> None:
    mask = torch.ones(1, 4, dtype=torch.bool)
    rewards = torch.tensor([[1.0, -2.0, 0.5, 3.0]])
    for per_remaining in (False, True):
        _, returns = gae(rewards, torch.zeros(1, 4), mask, per_remaining=per_remaining)
        for lam in (0.0, 0.5, 1.0):
            advantages, again = gae(rewards, returns, mask, lam=lam, per_remaining=per_remaining)
            assert torch.allclose(advantages, torch.zeros(1, 4), atol=1e-6)
            assert torch.allclose(again, returns, atol=1e-6)


@pytest.mark.parametrize("per_remaining", [False, True])
def test_padding_changes_nothing(batch: tuple[Tensor, Tensor, Tensor], per_remaining: bool) -> None:
    rewards, values, mask = batch
    together = gae(rewards, values, mask, gamma=0.9, lam=0.8, per_remaining=per_remaining)
    junk = torch.where(mask, values, 7.0)  # what stands at padding is not read
    assert torch.equal(gae(rewards, junk, mask, gamma=0.9, lam=0.8, per_remaining=per_remaining)[0], together[0])
    for row, length in enumerate(LENGTHS):
        one = (item[row : row + 1, :length] for item in (rewards, values, mask))
        alone = gae(*one, gamma=0.9, lam=0.8, per_remaining=per_remaining)
        assert torch.allclose(together[0][row, :length], alone[0][0], atol=1e-6)


def test_remaining_length() -> None:
    mask = torch.arange(4) < torch.tensor([4, 2])[:, None]
    assert remaining_length(mask).tolist() == [[4, 3, 2, 1], [2, 1, 1, 1]]


def test_whitened_tokens_have_mean_0_and_deviation_1(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    rewards, _, mask = batch
    values = whiten(rewards * 3 + 2 * mask, mask, floor=1e-3)
    assert float(values[mask].mean()) == pytest.approx(0, abs=1e-5)
    assert float(values[mask].std(unbiased=False)) == pytest.approx(1, abs=1e-5)
    assert (values[~mask] == 0).all()


def test_the_floor_keeps_small_differences_small() -> None:
    mask = torch.ones(1, 4, dtype=torch.bool)
    values = torch.tensor([[0.0, 0.001, 0.0, 0.001]])
    assert torch.allclose(whiten(values, mask, floor=0.05), (values - 0.0005) / 0.05)
    assert (whiten(torch.full((1, 4), 0.3), mask, floor=0.05).abs() < 1e-6).all()


# -- without a value function -------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=40)
@given(group=st.integers(2, 5), groups=st.integers(1, 3), data=st.data())
def test_a_response_is_compared_with_the_others_to_its_prompt(group: int, groups: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.floats(-3, 3, width=16), min_size=group * groups, max_size=group * groups))
    loo, scaled = leave_one_out(torch.tensor(values), group), group_scaled(torch.tensor(values), group)
    for index, value in enumerate(values):
        start = index // group * group
        mates = values[start : start + group]
        others = [mate for place, mate in enumerate(mates, start) if place != index]
        assert float(loo[index]) == pytest.approx(value - statistics.mean(others), abs=1e-4)
        expected = (value - statistics.mean(mates)) / (statistics.stdev(mates) + 1e-4)
        assert float(scaled[index]) == pytest.approx(expected, abs=1e-2)


def test_what_a_response_is_worth() -> None:
    mask = torch.tensor([[True, True, True], [True, False, False]])
    base, penalty = torch.tensor([[0.0, 0.0, -0.5], [-1.0, 0.0, 0.0]]), torch.tensor([[0.3, 0.3, 0.3], [0.1, 0.0, 0.0]])
    worth = {}
    for granularity in ("sequence", "slices"):
        for normalise in ("remaining", "sum"):
            chosen = PPOSettings(
                estimator="rloo",
                batch_size=2,
                rollout={"samples": 2},  # type: ignore[arg-type]
                reward={"granularity": granularity, "normalise": normalise},  # type: ignore[arg-type]
            )
            advantages, returns = per_response(base, penalty, mask, chosen)
            worth[granularity, normalise] = returns[:, 0].tolist()
            assert advantages[0].tolist() == pytest.approx([float(returns[0, 0] - returns[1, 0])] * 3)
            assert advantages[1].tolist() == pytest.approx([float(returns[1, 0] - returns[0, 0]), 0.0, 0.0])
    assert worth["sequence", "remaining"] == pytest.approx([-0.5 - 0.3, -1.1])
    assert worth["sequence", "sum"] == pytest.approx([-0.5 - 0.9, -1.1])
    assert worth["slices", "remaining"] == pytest.approx([-0.5 / 3 - 0.3, -1.1])
    assert worth["slices", "sum"] == pytest.approx([-0.5 / 3 - 0.9, -1.1])
