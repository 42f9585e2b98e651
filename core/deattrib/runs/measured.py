"""What metrics measure on frozen models, kept by content like their evaluations (`deattrib.runs.evaluated`).

One file per model, metric and set of questions, named by a hash of weights, metric (its origin, settings and the file that its
class is in), corpus, evaluation settings, codec and library versions; what cannot be read is measured again.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deattrib.evaluation.arrays import Array
from deattrib.evaluation.metric import Metric, Subject
from deattrib.runs.evaluated import LATER
from deattrib.runs.kept import keep, kept
from deattrib.runs.keys import cache_key

SCHEMA = 1


def measure_cached(metric: Metric, origin: str, subject: Subject, *, weights: str | None, cache: Path) -> Mapping[str, Array]:
    """`metric.measure` of a subject, from the cache where this very model was asked the same before.

    Args:
        origin: distribution and version that the metric comes from.
        weights: the model's fingerprint; None: it changes, so nothing is kept.
        cache: folder; files go to `measured/` in it.
    """
    if type(metric).measure is Metric.measure:
        return {}
    alone = replace(subject, base=None, oracle=None, original=None, measured={})
    if weights is None:
        return dict(metric.measure(alone))
    path = cache / "measured" / f"{_key(metric, origin, subject, weights)}.safetensors"
    there = kept(path)
    if there is not None:
        return there[0]
    found = {key: np.ascontiguousarray(values) for key, values in metric.measure(alone).items()}
    keep(path, found)
    return found


def _key(metric: Metric, origin: str, subject: Subject, weights: str) -> str:
    file = getattr(sys.modules.get(type(metric).__module__), "__file__", None)
    code = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else ""
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "weights": weights,
        "metric": [metric.name, origin, code, metric.params.model_dump(mode="json")],
        "corpus": subject.corpus.fingerprint(),
        "settings": subject.settings.model_dump(mode="json", exclude=LATER),
    }
    return cache_key(content, subject.model)
