"""Distance and p-value of the test between truth ratios: exact cases, bounds, and what the number of rows does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deattrib.evaluation.forget_quality import forget_quality

VALUES = st.lists(st.floats(0.01, 10.0), min_size=1, max_size=30)


def test_distance_is_the_largest_gap_of_the_distribution_functions() -> None:
    result = forget_quality([1.0, 2.0, 3.0, 4.0], [3.5, 4.5, 5.5, 6.5])
    assert result is not None
    assert result.distance == pytest.approx(3 / 4)  # three of four lie below 3.5, where the other has none
    assert (result.n_unlearned, result.n_oracle) == (4, 4)


def test_p_value_of_separated_samples_is_the_exact_one() -> None:
    # Of the C(6, 3) orders of two samples of three, two are separated: p = 2 / 20.
    result = forget_quality([1, 2, 3], [4, 5, 6])
    assert result is not None
    assert result.p == pytest.approx(2 / math.comb(6, 3))


def test_forty_rows_pass_at_a_distance_that_two_hundred_fail() -> None:
    def shifted(n: int) -> float:
        grid = (np.arange(n) + 0.5) / n
        result = forget_quality(grid, grid + 0.25)
        assert result is not None
        assert result.distance == pytest.approx(0.25, abs=1.01 / n)
        return result.p

    assert shifted(40) > 0.05 > shifted(200)


def test_rows_without_a_ratio_are_left_out() -> None:
    result = forget_quality([1.0, float("nan"), 2.0], [1.0, 2.0])
    assert result is not None
    assert (result.p, result.distance, result.n_unlearned) == (1.0, 0.0, 2)
    assert forget_quality([float("nan")], [1.0]) is None


@given(VALUES, VALUES)
def test_bounded_symmetric_and_blind_to_order(left: list[float], right: list[float]) -> None:
    one, other = forget_quality(left, right), forget_quality(right[::-1], left[::-1])
    assert one is not None
    assert other is not None
    assert 0 <= one.p <= 1
    assert 0 <= one.distance <= 1
    assert one.distance == pytest.approx(other.distance)
    assert one.p == pytest.approx(other.p, abs=1e-9)
