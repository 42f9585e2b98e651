"""From what a metric returned to figures of a row: means with intervals, checked against the columns it declares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deattrib.errors import MetricError, did_you_mean
from deattrib.evaluation.arrays import mean_of
from deattrib.evaluation.intervals import cluster_bootstrap
from deattrib.evaluation.metric import Column, Figure, Metric, Subject

Interval = list[float]
FILLED: Mapping[str, Any] = {
    "oracle": lambda subject: subject.oracle is not None,
    "original": lambda subject: subject.original is not None,
    "base": lambda subject: subject.base is not None,
    "holdout": lambda subject: bool(subject.corpus.holdout),
    "wrong answers": lambda subject: any(row.wrong_responses for row in subject.evaluation.forget.rows),
    "identities": lambda subject: subject.corpus.has_identities,
}


@dataclass(frozen=True, slots=True)
class Filled:
    """What a metric adds to a row: key -> figure (None: not there), key -> [low, high]."""

    figures: Mapping[str, float | None]
    intervals: Mapping[str, Interval]


def empty(metric: type[Metric]) -> Filled:
    """All of its columns without a figure."""
    return Filled({column.key: None for column in metric.described()}, {})


def missing_needs(metric: type[Metric], subject: Subject) -> list[str]:
    """What the metric needs and this subject has not; words that mean nothing here are taken for met."""
    return [need for need in metric.needs if need in FILLED and not FILLED[need](subject)]


def fill(metric: Metric, subject: Subject) -> Filled:
    """Compute a metric and check what it says.

    Raises:
        MetricError: a column that it does not declare, a wrong number of values, something that is not a finite number.
        Exception: whatever the metric raises.
    """
    cls = type(metric)
    if missing_needs(cls, subject):
        return empty(cls)
    returned = metric.compute(subject)
    columns = {column.key: column for column in cls.described()}
    if not isinstance(returned, Mapping):
        if len(columns) > 1:
            raise MetricError(
                f"compute() returned a {type(returned).__name__}, but the metric has {len(columns)} columns: expected a "
                f"mapping with the keys {', '.join(columns)}."
            )
        returned = {next(iter(columns)): returned}
    figures: dict[str, float | None] = dict.fromkeys(columns)
    intervals: dict[str, Interval] = {}
    for key, value in returned.items():
        if key not in columns:
            raise MetricError(
                f"compute() returned a column {key!r} that the metric does not declare.{did_you_mean(key, columns)}"
            )
        figures[key], interval = _figure(columns[key], value, subject)
        if interval is not None:
            intervals[key] = interval
    return Filled(figures, intervals)


def _figure(column: Column, value: Any, subject: Subject) -> tuple[float | None, Interval | None]:
    if value is None:
        return None, None
    if isinstance(value, Figure):
        number = None if value.value is None else _finite(column, value.value)
        return number, None if value.interval is None else [_finite(column, end) for end in value.interval]
    try:
        values = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MetricError(f"column {column.key!r}: a {type(value).__name__} is not made of numbers: {error}") from error
    if values.ndim == 0:
        return (None if np.isnan(values) else _finite(column, float(values))), None
    part, settings = getattr(subject.evaluation, column.part), subject.settings
    if values.shape != (len(part),):
        raise MetricError(
            f"column {column.key!r}: got shape {values.shape}, expected one number, or one for each of the {len(part)} "
            f"{column.part} rows in the order of subject.evaluation.{column.part}.rows."
        )
    if np.isinf(values).any():
        raise MetricError(f"column {column.key!r}: row {int(np.isinf(values).argmax())} is infinite; bound it, or use NaN.")
    mean = mean_of(values)
    if mean is None:
        return None, None
    low, high = cluster_bootstrap(
        values, part.clusters, seed=settings.seed, samples=settings.interval_samples, level=settings.interval_level
    )
    return mean, None if math.isnan(low) else [low, high]


def _finite(column: Column, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise MetricError(f"column {column.key!r}: {value!r} is not a number.") from error
    if not math.isfinite(number):
        raise MetricError(f"column {column.key!r} is {number}: expected a finite number, or None where there is none.")
    return number
