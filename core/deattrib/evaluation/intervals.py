"""Percentile intervals by the cluster bootstrap (Efron and Tibshirani 1993; Field and Welsh 2007).

Rows that ask for one fact in several phrasings stand or fall together. Resampling rows would count them as independent
and give intervals that are too narrow, so whole facts are drawn with replacement instead.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from deattrib.evaluation.arrays import Array


def cluster_bootstrap(
    values: Sequence[float] | Array,
    clusters: Sequence[Hashable],
    *,
    seed: int,
    samples: int = 1000,
    level: float = 0.95,
    weights: Sequence[float] | Array | None = None,
) -> tuple[float, float]:
    """Interval of the (weighted) mean of `values`.

    Args:
        values: one number per row; NaN rows are left out.
        clusters: which cluster each row belongs to.
        seed: equal seeds give equal intervals.
        samples: resamples.
        level: coverage in (0, 1).
        weights: of the rows in the mean, not negative; 1 each by default.

    Returns:
        (low, high); (nan, nan) without rows. A single cluster has no spread to estimate and gives a point.
    """
    column = np.asarray(values, dtype=np.float64)[:, None]
    means = bootstrap_means(column, clusters, seed=seed, samples=samples, weights=weights)[:, 0]
    return percentile_interval(means, level=level)


def bootstrap_means(
    columns: Array,
    clusters: Sequence[Hashable],
    *,
    seed: int | Sequence[int],
    samples: int,
    weights: Sequence[float] | Array | None = None,
) -> Array:
    """Resampled means [samples, K] of K figures of the same rows, [N, K]: one draw of clusters serves all K.

    Joint draws keep the figures' correlation, which a statistic made of several (ToW, model utility) needs.
    NaN entries are left out of their column; a draw without any entry gives NaN.
    """
    if len(columns) != len(clusters):
        raise ValueError(
            f"There are {len(columns)} rows of values and {len(clusters)} cluster labels: one label per row is needed."
        )
    names = {name: index for index, name in enumerate(dict.fromkeys(clusters))}
    if not names:
        return np.full((samples, columns.shape[1]), np.nan)
    index = np.array([names[name] for name in clusters])
    share = np.ones(len(index)) if weights is None else np.asarray(weights, dtype=np.float64)
    present = ~np.isnan(columns) * share[:, None]
    sums, counts = np.zeros((2, len(names), columns.shape[1]))
    np.add.at(sums, index, np.nan_to_num(columns) * present)
    np.add.at(counts, index, present)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=samples)
    total = (draws @ counts).astype(np.float64)
    means: Array = np.divide(draws @ sums, total, out=np.full(total.shape, np.nan), where=total > 0)
    return means


def percentile_interval(means: Array, *, level: float) -> tuple[float, float]:
    """The central `level` of resampled figures; NaN ones are left out; (nan, nan) where nothing is left."""
    means = means[~np.isnan(means)]
    if not len(means):
        return (float("nan"), float("nan"))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return (float(low), float(high))
