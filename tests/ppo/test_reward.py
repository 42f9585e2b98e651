"""Rewards against numbers worked out by hand and against the paper's formula written as loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deattrib.ppo.reward import kl_penalty, shape_reward, slice_ends, slice_width, token_rewards
from deattrib.ppo.settings import RewardSettings

SHAPES = ["chi", "hinge", "inverse", "log-odds"]
BOUNDS = {"chi": (-1, 0), "hinge": (-1, 0), "inverse": (0, 1), "log-odds": (-1.5, 1.5)}


def reward(**values: Any) -> RewardSettings:
    return RewardSettings(**{"shape": "hinge", **values})


def none_empty(rows: int) -> torch.Tensor:
    return torch.zeros(rows, dtype=torch.bool)


def paper(b: float) -> float:
    """chi(b) = clip(ln(1 - clip(b, 1e-6, 1 - 1e-6)) / 1.05, -1, 0)."""
    return max(-1.0, min(0.0, math.log(1 - min(max(b, 1e-6), 1 - 1e-6)) / 1.05))


# -- chi and the other shapes ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("b", [0.0, 0.01, 0.3, 0.5, 0.64, 0.65, 0.66, 0.9, 1.0])
def test_chi_is_the_papers_formula(b: float) -> None:
    assert float(shape_reward(torch.tensor(b), reward(shape="chi"), chance=0.0)) == pytest.approx(paper(b), abs=1e-5)


def test_chi_saturates_where_the_formula_says() -> None:
    edge = 1 - math.exp(-1.05)  # .6501
    values = shape_reward(torch.tensor([edge - 0.01, edge + 1e-4, 1.0]), reward(shape="chi"), chance=0.0)
    assert values[0] > -1 and values[1] == -1 and values[2] == -1


def test_the_other_shapes_by_hand() -> None:
    b = torch.tensor([0.0, 0.1, 0.55, 1.0])
    assert shape_reward(b, reward(shape="hinge"), chance=0.1).tolist() == pytest.approx([0, 0, -0.5, -1])
    assert shape_reward(b, reward(shape="inverse"), chance=0.1).tolist() == pytest.approx([1, 0.9, 0.45, 0])
    odds = shape_reward(b, reward(shape="log-odds"), chance=0.1).tolist()
    assert odds == pytest.approx([1.5, 1.5, math.log(0.45 / 0.55), -1.5], abs=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20), chance=st.floats(0, 0.875))
def test_every_shape_is_bounded_and_never_rewards_attribution(shape: str, values: list[float], chance: float) -> None:
    result = shape_reward(torch.tensor(sorted(values)), reward(shape=shape), chance=chance)
    low, high = BOUNDS[shape]
    assert torch.isfinite(result).all()
    assert float(result.min()) >= low - 1e-6 and float(result.max()) <= high + 1e-6
    assert bool((result.diff() <= 1e-6).all())


# -- slices ------------------------------------------------------------------------------------------------------------
def test_slices_by_hand() -> None:
    ends = slice_ends(torch.tensor([7, 24, 1]), reward(slices=3))
    assert ends.tolist() == [[3, 6, 7], [8, 16, 24], [1, 1, 1]]
    wide = slice_ends(torch.tensor([24]), reward(slices=15))[0].tolist()
    assert wide == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 24, 24, 24]
    assert len(set(wide)) == 12
    assert slice_width(torch.tensor([24, 7, 15, 16]), reward(slices=15)).tolist() == [2, 1, 1, 2]


def test_other_granularities() -> None:
    lengths = torch.tensor([3, 1])
    assert slice_ends(lengths, reward(granularity="sequence")).tolist() == [[3], [1]]
    assert slice_ends(lengths, reward(granularity="tokens")).tolist() == [[1, 2, 3], [1, 1, 1]]


@settings(deadline=None, max_examples=80)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=5),
    slices=st.integers(1, 30),
    granularity=st.sampled_from(["slices", "tokens", "sequence"]),
)
def test_ends_rise_to_the_length_and_cut_every_width(lengths: list[int], slices: int, granularity: str) -> None:
    chosen = reward(slices=slices, granularity=granularity)
    ends = slice_ends(torch.tensor(lengths), chosen)
    if granularity == "slices":
        assert ends.shape[1] == slices
    for row, length in zip(ends.tolist(), lengths, strict=True):
        width = 1 if granularity == "tokens" else length if granularity == "sequence" else math.ceil(length / slices)
        assert row[-1] == length
        assert all(1 <= end <= length for end in row) and row == sorted(row)
        assert sorted(set(row)) == [*range(width, length, width), length]


# -- rewards per token -------------------------------------------------------------------------------------------------
def test_hand_computed_rewards_of_seven_tokens_in_three_slices() -> None:
    attribution = torch.tensor([[0.2, 0.5, 0.8]])
    result = token_rewards(attribution, torch.tensor([7]), none_empty(1), reward(slices=3))
    assert result[0].tolist() == pytest.approx([-0.2, -0.2, -0.2, -1.1 / 4, -1.6 / 5, -2.1 / 6, -2.9 / 7])
    plain = token_rewards(attribution, torch.tensor([7]), none_empty(1), reward(slices=3, cumulative_mean=False))
    assert plain[0].tolist() == pytest.approx([-0.2, -0.2, -0.2, -0.5, -0.5, -0.5, -0.8])


def test_hand_computed_rewards_of_24_tokens_in_twelve_slices() -> None:
    attribution = torch.cat([torch.arange(1, 13) / 12, torch.full((3,), float("nan"))])[None]
    result = token_rewards(attribution, torch.tensor([24]), none_empty(1), reward(slices=15, cumulative_mean=False))[0]
    assert result.tolist() == pytest.approx([-(t // 2 + 1) / 12 for t in range(24)])  # what lies beyond 12 is never read


@settings(deadline=None, max_examples=60)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4), slices=st.integers(1, 20), seed=st.integers(0, 99))
def test_rewards_equal_the_papers_sum_written_as_loops(lengths: list[int], slices: int, seed: int) -> None:
    chosen = reward(shape="chi", slices=slices)
    table = torch.rand(len(lengths), 41, generator=torch.Generator().manual_seed(seed))  # DA(i, y[:n]) for every n
    ends = slice_ends(torch.tensor(lengths), chosen)
    result = token_rewards(table.gather(1, ends), torch.tensor(lengths), none_empty(len(lengths)), chosen)
    assert result.shape == (len(lengths), max(lengths))
    for row, length in enumerate(lengths):
        width = math.ceil(length / slices)
        for t in range(result.shape[1]):
            if t >= length:
                assert float(result[row, t]) == 0
                continue
            prefixes = [min(math.ceil(step / width) * width, length) for step in range(1, t + 2)]
            expected = sum(paper(float(table[row, end])) for end in prefixes) / (t + 1)
            assert float(result[row, t]) == pytest.approx(expected, abs=1e-5)


def test_one_reward_at_the_end_and_one_per_token() -> None:
    lengths = torch.tensor([3, 1])
    end = token_rewards(torch.tensor([[0.4], [0.9]]), lengths, none_empty(2), reward(granularity="sequence"))
    assert end.flatten().tolist() == pytest.approx([0, 0, -0.4, -0.9, 0, 0])
    scores = torch.tensor([[0.1, 0.2, 0.6], [0.5, 0.5, 0.5]])
    each = token_rewards(scores, lengths, none_empty(2), reward(granularity="tokens"))
    assert each.flatten().tolist() == pytest.approx([-0.1, -0.15, -0.3, -0.5, 0, 0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("granularity", ["slices", "tokens", "sequence"])
def test_silence_is_never_better_than_the_owners_own_words(shape: str, granularity: str) -> None:
    chosen = reward(shape=shape, granularity=granularity, slices=2)
    lengths = torch.tensor([3, 3])
    attribution = torch.ones(slice_ends(lengths, chosen).shape)
    result = token_rewards(attribution, lengths, torch.tensor([True, False]), chosen)
    assert (result[0] == (-1.5 if shape == "log-odds" else -1.0)).all()
    assert bool((result[0] <= result[1].min() + 1e-6).all())


def test_the_rewards_of_a_row_do_not_depend_on_the_rows_beside_it() -> None:
    chosen = reward(slices=4)
    attribution = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([5, 19, 2])
    together = token_rewards(attribution, lengths, none_empty(3), chosen)
    for row in range(3):
        alone = token_rewards(attribution[row : row + 1], lengths[row : row + 1], none_empty(1), chosen)[0]
        assert torch.equal(together[row, : int(lengths[row])], alone)


def test_k1_is_the_kl_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.log_softmax(torch.randn(6, generator=generator), -1) for _ in range(2))
    drawn = torch.multinomial(p.exp(), 200_000, replacement=True, generator=generator)
    estimate = kl_penalty(p[drawn], q[drawn]).mean()
    assert float(estimate) == pytest.approx(float((p.exp() * (p - q)).sum()), abs=0.01)
