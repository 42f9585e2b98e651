"""Arithmetic behind curves and tracks: events to series, axis ranges, ticks, thinning, smoothing. No drawing here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from deattrib.report.figures import figure

Point = tuple[float, float]
"""(step, value)"""

THIN_OUT = 400
"""Points of one curve that are drawn at most, about."""


def series(events: Sequence[Mapping[str, object]]) -> dict[str, list[Point]]:
    """key → (step, value), by step. Non-numbers are left out; a step written twice (resumed run) counts once, the last time."""
    by_step: dict[float, Mapping[str, object]] = {}
    for event in events:
        step = figure(event.get("step"))
        if event.get("kind") == "step" and step is not None:
            by_step[step] = event
    found: dict[str, list[Point]] = {}
    for step in sorted(by_step):
        for key, raw in by_step[step].items():
            number = figure(raw)
            if number is not None and key not in ("step", "schema"):
                found.setdefault(key, []).append((step, number))
    return found


def along(share: float) -> str:
    """Where a figure is on a track from 0 to 1, in per cent of its width; at an end of it where it lies outside."""
    return f"{100 * min(1.0, max(0.0, share)):.2f}%"


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """At most `most` + 1 round numbers (1, 2, 2.5 or 5 times a power of ten apart) within [low, high]."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if span / (power * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, last + 1)]


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """The range of an axis: zero included where it is near, never of zero height."""
    low, high = min(values), max(values)
    pad = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    lower, upper = low - pad, high + pad
    if low >= 0 and (lower < 0 or low < 0.35 * high):
        lower = 0.0
    elif high <= 0 and (upper > 0 or high > 0.35 * low):
        upper = 0.0
    return lower, upper


def thin(points: Sequence[Point], most: int = THIN_OUT) -> list[Point]:
    """At most about `most` points: the lowest and highest of each bucket, in order."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(2 * len(points) / most)
    kept: list[Point] = []
    for start in range(0, len(points), size):
        bucket = points[start : start + size]
        kept.extend(sorted({min(bucket, key=lambda p: p[1]), max(bucket, key=lambda p: p[1])}))
    return kept


def smooth(points: Sequence[Point]) -> list[Point]:
    """Centred moving mean over a tenth of the points, the window shrinking at both ends."""
    half = max(1, len(points) // 20)
    sums = [0.0]
    for _, number in points:
        sums.append(sums[-1] + number)
    result = []
    for index, (step, _) in enumerate(points):
        reach = min(half, index, len(points) - 1 - index)
        result.append((step, (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)))
    return result
