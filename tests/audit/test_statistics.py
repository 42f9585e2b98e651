"""Correlations against scipy, LDS and its ceiling against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from deattrib.audit.statistics import (
    auroc,
    bootstrap,
    calibration_curve,
    ceiling,
    half_subsets,
    kendall,
    lds,
    mean_of,
    row_correlations,
    spearman,
    stepped_up,
    top_one,
)


def test_correlations_are_scipys_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, 15).astype(float), rng.integers(0, 6, 15).astype(float)
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
        assert kendall(a, b) == pytest.approx(stats.kendalltau(a, b).statistic)


def test_what_has_no_order_has_no_correlation() -> None:
    flat, any_ = np.ones(5), np.arange(5.0)
    assert math.isnan(spearman(flat, any_)) and math.isnan(kendall(any_, flat)) and math.isnan(spearman(any_[:2], any_[:2]))
    assert math.isnan(mean_of(np.array([math.nan]))) and mean_of(np.array([math.nan, 2.0])) == 2.0


def test_lds_by_hand() -> None:
    """Owners a, b, c weigh 3, 1, 2; sets {a}, {b}, {a, c}, {b, c} sum to 3, 1, 5, 3: ranks 2.5, 1, 4, 2.5.

    First response: outcomes -2, -5, -1, -3 have ranks 3, 1, 4, 2. rho = sum of products of centred ranks
    (0 * .5 + -1.5 * -1.5 + 1.5 * 1.5 + 0 * -.5) / sqrt(4.5 * 5) = 4.5 / 4.7434 = 0.9487. Second response: the reverse.
    """
    scores = np.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    subsets = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=bool)
    outcomes = np.array([[-2.0, -5.0, -1.0, -3.0], [2.0, 5.0, 1.0, 3.0]])
    assert lds(scores, subsets, outcomes).tolist() == pytest.approx([4.5 / math.sqrt(22.5), -4.5 / math.sqrt(22.5)])


def test_the_ceiling_by_hand() -> None:
    """Two seeds with ranks 1 2 3 4 and 1 2 4 3 agree at 0.8; the mean of two has reliability 1.6 / 1.8."""
    seeds = np.array([[[1.0, 1.0], [2.0, 2.0], [3.0, 4.0], [4.0, 3.0]]])
    assert ceiling(seeds) == pytest.approx(math.sqrt(1.6 / 1.8))
    assert math.isnan(ceiling(seeds[:, :, :1]))
    assert ceiling(np.array([[[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]])) == 0.0


def test_the_ceiling_is_what_the_truth_reaches_in_simulation() -> None:
    """True values plus noise, three seeds: the truth's correlation with the mean is what the seeds' agreement predicts."""
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(40, 60))
    seeds = truth[:, :, None] + 0.8 * rng.normal(size=(40, 60, 3))
    assert mean_of(row_correlations(truth, seeds.mean(2))) == pytest.approx(ceiling(seeds), abs=0.02)
    assert stepped_up(0.5, 1) == pytest.approx(math.sqrt(0.5))


def test_halves_are_halves_and_differ() -> None:
    masks = half_subsets(7, 12, seed=3)
    assert masks.shape == (12, 7) and (masks.sum(1) == 3).all() and len({tuple(row) for row in masks.tolist()}) == 12
    assert (half_subsets(7, 12, seed=3) == masks).all() and (half_subsets(7, 12, seed=4) != masks).any()
    assert len(half_subsets(3, 5, seed=0)) == 5  # only 3 different ones exist


def test_auroc_and_top_one_with_ties() -> None:
    assert auroc(np.array([2.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    scores = np.array([[0.1, 0.9], [0.5, 0.5], [0.9, 0.1]])
    assert top_one(scores, np.array([1, 0, 1])) == pytest.approx((1 + 0.5 + 0) / 3)
    assert math.isnan(auroc(np.zeros(0), np.ones(2)))
    assert math.isnan(top_one(np.ones((3, 1)), np.zeros(3, dtype=np.int64)))


def test_the_calibration_curve_by_hand() -> None:
    curve = calibration_curve(np.array([0.0, 0.1, 0.95, 1.0]), np.array([0.2, 0.0, 0.5, 0.7]))
    assert [(point["low"], point["rows"]) for point in curve] == [(0.0, 2), (0.8, 2)]
    assert [point["exact"] for point in curve] == pytest.approx([0.1, 0.6])
    assert [point["attribution"] for point in curve] == pytest.approx([0.05, 0.975])


def test_the_bootstrap_draws_clusters() -> None:
    """Four equal rows in one cluster are one piece of evidence: the interval is that of the cluster means."""
    values = np.repeat(np.arange(10.0), 4)
    clusters = np.repeat(np.arange(10), 4).tolist()
    low, high = bootstrap(lambda rows: float(values[rows].mean()), clusters, seed=0, samples=2000)
    wide = 1.96 * np.std(np.arange(10.0)) / math.sqrt(10)
    assert (low, high) == pytest.approx((4.5 - wide, 4.5 + wide), abs=0.25)
    assert math.isnan(bootstrap(lambda rows: 1.0, ["one"] * 4, seed=0)[0])
