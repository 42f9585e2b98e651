"""The metrics of a run: the built-in ones as a plugin, choosing them, and the wall around each.

A metric that fails costs its own columns on that row and a warning that names it, its distribution and version; never the run.
What a metric measures on a frozen model is kept by content (`deattrib.runs.measured`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deattrib.attribution.choice import Spec, choose
from deattrib.attribution.hookspecs import hookimpl
from deattrib.attribution.loading import Origin, describe
from deattrib.attribution.plugins import PluginRegistry
from deattrib.errors import ConfigError, DeattribError, PluginError
from deattrib.evaluation.columns import Filled, empty, fill
from deattrib.evaluation.metric import Column, Metric, Subject
from deattrib.evaluation.metrics.builtin import METRICS
from deattrib.models.randomness import random_state_kept
from deattrib.runs.measured import measure_cached

BUILTIN = {metric.name: metric for metric in METRICS}


@hookimpl
def metrics() -> Sequence[type[Any]]:
    return METRICS


@dataclass(frozen=True, slots=True)
class ReadyMetric:
    """One metric, made with its settings, and where it comes from."""

    metric: Metric
    origin: Origin

    @property
    def who(self) -> str:
        return f"Metric {self.metric.name!r} ({self.origin})"


def choose_metrics(specs: Sequence[Spec] | None, registry: PluginRegistry) -> list[ReadyMetric]:
    """The metrics that are asked for; None: the built-in ones, as far as no setting disables them.

    Built-in metrics are there whatever plugins a run allows; others' are only taken by name, so that installing a plugin
    changes no run.

    Raises:
        PluginError: unknown (with close names), disabled, failed, not derived from `deattrib.Metric`, or two with one column.
        ConfigError: asked for twice, or a setting of it is unknown or wrong.
    """
    disabled = {entry["name"] for entry in registry.listing() if entry["kind"] == "metric" and entry["state"] == "disabled"}
    wanted = [name for name in BUILTIN if name not in disabled] if specs is None else list(specs)
    chosen = [_choose(spec, registry) for spec in wanted]
    seen: dict[str, ReadyMetric] = {}
    for item in chosen:
        for column in item.metric.described():
            other = seen.setdefault(column.key, item)
            if other.metric.name == item.metric.name and other is not item:
                raise ConfigError(f"evaluation.metrics names {item.metric.name!r} twice: name it once.")
            if other is not item:
                raise PluginError(f"{other.who} and {item.who} both have a column {column.key!r}: leave one of them out.")
    return chosen


def _choose(spec: Spec, registry: PluginRegistry) -> ReadyMetric:
    known = {entry["name"] for entry in registry.listing() if entry["kind"] == "metric"}
    own = {name: cls for name, cls in BUILTIN.items() if name not in known}
    chosen = choose("metric", spec, registry, base=Metric, public="Metric", example="{name: membership-inference}", own=own)
    _check_columns(chosen.cls, chosen.origin)
    try:
        return ReadyMetric(chosen.cls(chosen.params), chosen.origin)
    except DeattribError:
        raise
    except Exception as error:
        raise PluginError(f"{chosen.who} cannot be made: {describe(error)}") from error


def _check_columns(cls: type[Metric], origin: Origin) -> None:
    who = f"Metric {cls.name!r} ({origin})"
    if cls.compute is Metric.compute:
        raise PluginError(f"{who} does not define compute(subject), the one method that must be written.")
    columns = cls.described()
    if not all(isinstance(column, Column) for column in columns):
        raise PluginError(f"{who}: columns is {cls.columns!r}, expected deattrib.Column objects.")
    keys = [column.key for column in columns]
    double = [key for key in keys if keys.count(key) > 1]
    if double:
        raise PluginError(f"{who} declares the column {double[0]!r} twice.")


def check_free(chosen: Sequence[ReadyMetric], taken: Mapping[str, Any]) -> None:
    """Raises PluginError where a metric's column is one that every row has already."""
    for item in chosen:
        for column in item.metric.described():
            if column.key in taken:
                raise PluginError(f"{item.who} has a column {column.key!r}, which every row has already: give it another key.")


def described(chosen: Sequence[ReadyMetric], seconds: Mapping[str, float]) -> dict[str, Any]:
    """What `metrics.json` says of the metrics: name -> origin, source, seconds, columns."""
    return {
        item.metric.name: {
            "origin": str(item.origin),
            "source": item.metric.source,
            "seconds": round(seconds.get(item.metric.name, 0.0), 2),
            "columns": [
                {
                    "key": column.key,
                    "what": column.what,
                    "direction": column.direction,
                    "unit": column.unit,
                    "range": [end if np.isfinite(end) else None for end in column.range],
                }
                for column in item.metric.described()
            ],
        }
        for item in chosen
    }


def apply_metrics(
    chosen: Sequence[ReadyMetric],
    subjects: Mapping[str, Subject],
    *,
    weights: Mapping[str, str],
    cache: Path,
    warn: Callable[[str], None],
) -> tuple[dict[str, list[Filled]], dict[str, float]]:
    """Every metric on every subject.

    Args:
        subjects: by row; "oracle" and "original" are what the others are compared with.
        weights: fingerprints of the models that do not change, by row.
        warn: is told of every failure.

    Returns:
        row -> what each metric adds to it; name of the metric -> seconds.
    """
    filled: dict[str, list[Filled]] = {name: [] for name in subjects}
    seconds: dict[str, float] = {}
    for item in chosen:
        start = time.perf_counter()
        measured: dict[str, Subject] = {}
        failed: set[str] = set()
        for name, subject in subjects.items():
            try:
                with _own_randomness(subject.settings.seed):
                    arrays = measure_cached(item.metric, str(item.origin), subject, weights=weights.get(name), cache=cache)
                measured[name] = replace(subject, measured=arrays)
            except (Exception, SystemExit) as error:
                failed.add(name)
                warn(f"{item.who} failed in measure() on row {name!r}, which has no figure of it: {describe(error)}")
        for name, subject in measured.items():
            whole = replace(subject, oracle=measured.get("oracle"), original=measured.get("original"))
            filled[name].append(_filled(item, whole, warn))
        for name in failed:
            filled[name].append(empty(type(item.metric)))
        seconds[item.metric.name] = time.perf_counter() - start
    return filled, seconds


def _filled(item: ReadyMetric, subject: Subject, warn: Callable[[str], None]) -> Filled:
    try:
        with _own_randomness(subject.settings.seed):
            return fill(item.metric, subject)
    except (Exception, SystemExit) as error:
        text = str(error) if isinstance(error, DeattribError) else describe(error)
        warn(f"{item.who} failed on row {subject.name!r}, whose figures of it are empty: {text}")
        return empty(type(item.metric))


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """The same global randomness for every metric and row, whatever was drawn before; put back afterwards."""
    states = random.getstate(), np.random.get_state()
    with random_state_kept():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
