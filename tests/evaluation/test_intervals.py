"""The cluster bootstrap over facts: its width, what counts once, what is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deattrib.evaluation.intervals import bootstrap_means, cluster_bootstrap


def test_width_is_that_of_the_mean_of_independent_facts() -> None:
    values = np.random.default_rng(0).normal(size=400)
    low, high = cluster_bootstrap(values, range(400), seed=0, samples=4000)
    error = values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_rows_of_one_fact_count_once() -> None:
    facts = np.random.default_rng(1).normal(size=50)
    once = cluster_bootstrap(facts, range(50), seed=3)
    five_times = cluster_bootstrap(np.repeat(facts, 5), np.repeat(np.arange(50), 5).tolist(), seed=3)
    as_if_independent = cluster_bootstrap(np.repeat(facts, 5), range(250), seed=3)
    assert five_times == pytest.approx(once)
    assert as_if_independent[1] - as_if_independent[0] < 0.6 * (once[1] - once[0])  # 1 / sqrt(5) = .45


def test_two_facts_can_only_be_drawn_in_four_ways() -> None:
    # Means of a draw: 0, 1/2 (twice) or 1, a quarter each at the ends.
    means = bootstrap_means(np.array([[0.0], [1.0]]), ["a", "b"], seed=0, samples=4000)[:, 0]
    shares = [float((means == value).mean()) for value in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_missing_rows_are_left_out_and_nothing_gives_nan() -> None:
    assert cluster_bootstrap([1.0, float("nan"), 1.0], "aab", seed=0) == (1.0, 1.0)
    assert all(math.isnan(bound) for bound in cluster_bootstrap([], [], seed=0))
    assert all(math.isnan(bound) for bound in cluster_bootstrap([float("nan")], ["a"], seed=0))


def test_weights_are_those_of_the_mean() -> None:
    assert cluster_bootstrap([1.0, 5.0], ["a", "a"], seed=0, weights=[3.0, 1.0]) == (2.0, 2.0)


def test_labels_must_match_rows() -> None:
    with pytest.raises(ValueError, match="2 rows of values and 1 cluster labels"):
        cluster_bootstrap([1.0, 2.0], ["a"], seed=0)


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 4)), min_size=1, max_size=20), st.integers(0, 3))
def test_within_the_values_nested_by_level_and_seeded(rows: list[tuple[float, int]], seed: int) -> None:
    values, clusters = [row[0] for row in rows], [row[1] for row in rows]
    low, high = cluster_bootstrap(values, clusters, seed=seed, samples=100)
    inner = cluster_bootstrap(values, clusters, seed=seed, samples=100, level=0.5)
    assert min(values) - 1e-9 <= low <= inner[0] <= inner[1] <= high <= max(values) + 1e-9
    assert cluster_bootstrap(values, clusters, seed=seed, samples=100) == (low, high)
