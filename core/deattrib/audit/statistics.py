"""Statistics of an audit: rank correlations with intervals, the linear datamodelling score and its ceiling, calibration.

LDS (Park et al. 2023, TRAK, definition 2.3), with owners for training examples: for random sets S of owners, the Spearman
correlation over sets between the log-probability under a model trained on S and the summed attributions of the owners in S.
Retraining is noisy, so not even a perfect scorer reaches 1. Its ceiling is estimated from the agreement between seeds
(Spearman 1904): with r the mean correlation of two seeds, the mean of k seeds has reliability k r / (1 + (k - 1) r)
(Spearman-Brown), and the noise-free truth correlates with it at the root of that.

Everything is numpy; what cannot be computed (fewer than 3 points, no variation) is NaN.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from deattrib.evaluation.signals import order_matrix

Array = npt.NDArray[np.float64]
FEWEST = 3
NAN = float("nan")


def spearman(a: Array, b: Array) -> float:
    """Spearman's rho, ties at their mean rank."""
    if len(a) < FEWEST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return NAN
    ranks = [stats.rankdata(values) - (len(values) + 1) / 2 for values in (a, b)]
    return float(ranks[0] @ ranks[1] / math.sqrt(float(ranks[0] @ ranks[0]) * float(ranks[1] @ ranks[1])))


def kendall(a: Array, b: Array) -> float:
    """Kendall's tau-b."""
    if len(a) < FEWEST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return NAN
    return float(stats.kendalltau(a, b).statistic)


def row_correlations(a: Array, b: Array) -> Array:
    """Spearman of each row over its columns: [R, O], [R, O] -> [R]."""
    return np.array([spearman(one, other) for one, other in zip(a, b, strict=True)])


def mean_of(values: Array) -> float:
    """Mean without NaN entries; NaN where there is nothing else."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else NAN


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    samples: int = 500,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a statistic of rows, whole clusters drawn with replacement.

    Args:
        statistic: gets row numbers, some several times.
        clusters: of each row; rows that ask for one fact stand or fall together.

    Returns:
        (low, high); NaN with fewer than two clusters, or where most draws give no number.
    """
    members: dict[Hashable, list[int]] = {}
    for row, name in enumerate(clusters):
        members.setdefault(name, []).append(row)
    if len(members) < 2:
        return NAN, NAN
    groups = [np.array(rows, dtype=np.int64) for rows in members.values()]
    rng = np.random.default_rng(seed)
    draws = [
        statistic(np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])) for _ in range(samples)
    ]
    numbers = np.array(draws)[~np.isnan(draws)]
    if len(numbers) < samples / 2:
        return NAN, NAN
    low, high = np.quantile(numbers, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def lds(scores: Array, subsets: npt.NDArray[np.bool_], outcomes: Array) -> Array:
    """Linear datamodelling score of each response.

    Args:
        scores: [R, O] attribution of each response to each owner, unbounded.
        subsets: [M, O] which owners a model was trained on.
        outcomes: [R, M] log-probability of each response under that model.

    Returns:
        [R]
    """
    return row_correlations(scores @ subsets.T.astype(np.float64), outcomes)


def ceiling(outcomes: Array) -> float:
    """What a perfect scorer could reach against the mean over seeds, from how well single seeds agree: [R, M, S] -> [0, 1].

    NaN with one seed; 0 where seeds do not agree at all.
    """
    seeds = outcomes.shape[2]
    pairs = [
        mean_of(row_correlations(outcomes[:, :, a], outcomes[:, :, b])) for a, b in itertools.combinations(range(seeds), 2)
    ]
    return stepped_up(mean_of(np.array(pairs)), seeds)


def stepped_up(agreement: float, seeds: int) -> float:
    """Root of the reliability of a mean of `seeds` measurements that correlate at `agreement` one by one."""
    if math.isnan(agreement):
        return NAN
    r = min(max(agreement, 0.0), 1.0)
    return math.sqrt(seeds * r / (1 + (seeds - 1) * r))


def half_subsets(owners: int, count: int, seed: int) -> npt.NDArray[np.bool_]:
    """Random halves of the owners (rounded down), all different as far as there are as many: [count, owners]."""
    rng = np.random.default_rng(seed)
    size, most = owners // 2, math.comb(owners, owners // 2)
    found: list[tuple[int, ...]] = []
    while len(found) < count:
        some = tuple(sorted(rng.choice(owners, size=size, replace=False).tolist()))
        if some not in found or len(found) >= most:
            found.append(some)
    masks = np.zeros((count, owners), dtype=np.bool_)
    for row, some in enumerate(found):
        masks[row, list(some)] = True
    return masks


def auroc(positives: Array, negatives: Array) -> float:
    """Probability that a positive is above a negative, ties counting half."""
    if not len(positives) or not len(negatives):
        return NAN
    return float(order_matrix(positives, negatives).mean())


def top_one(scores: Array, wanted: npt.NDArray[np.int64]) -> float:
    """Share of rows [R, O] whose highest column is the wanted one; a tie at the top counts one over its size.

    NaN without rows, and where there is but one column to choose from.
    """
    if not len(scores) or scores.shape[1] < 2:
        return NAN
    best = scores == scores.max(1, keepdims=True)
    return float((best[np.arange(len(scores)), wanted] / best.sum(1)).mean())


def calibration_curve(attribution: Array, exact: Array, *, bins: int = 5) -> list[dict[str, Any]]:
    """Mean exact share per bin of attribution; equal bins of [0, 1], those without rows left out."""
    index = np.minimum((attribution * bins).astype(int), bins - 1)
    return [
        {
            "low": number / bins,
            "high": (number + 1) / bins,
            "rows": int((index == number).sum()),
            "attribution": float(attribution[index == number].mean()),
            "exact": float(exact[index == number].mean()),
        }
        for number in range(bins)
        if (index == number).any()
    ]
