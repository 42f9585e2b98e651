"""One scorer under audit: fitted, calibrated, asked about every probe and every owner, timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from deattrib.attribution.attributor import ScorerSpec
from deattrib.attribution.calibration import Calibration
from deattrib.attribution.context import ScorerContext
from deattrib.attribution.guard import GuardedScorer
from deattrib.attribution.parts import measure_scale
from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.scorer import Rows, Scorer
from deattrib.attribution.settings import CalibrationSettings, GuardSettings
from deattrib.attribution.witnesses import Witnesses
from deattrib.audit.probes import AT_ONCE, Probes
from deattrib.audit.statistics import Array
from deattrib.errors import CalibrationError, DeattribError

TIMED_ROWS = 32
REPEATS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What a scorer said, R probes and O audited owners.

    Attributes:
        scores: [R, O] raw.
        everybody: [R, all owners] raw, for the LDS; None where it was not asked or refused (see `notes`).
        attribution: [R] calibrated, about the row's own owner; None where there is no scale.
        calibration: its figures; None for controls.
        notes: what went wrong without stopping it.
        fit_seconds, seconds_per_response: measured here.
    """

    name: str
    fidelity: str
    origin: str
    scores: Array
    everybody: Array | None
    attribution: Array | None
    calibration: dict[str, Any] | None
    notes: tuple[str, ...]
    fit_seconds: float
    seconds_per_response: float


def measure_scorer(
    spec: ScorerSpec,
    *,
    label: str,
    registry: PluginRegistry,
    context: ScorerContext,
    probes: Probes,
    owners: Sequence[str],
    witnesses: Witnesses,
    settings: CalibrationSettings,
    guarding: GuardSettings,
    all_owners: bool,
) -> Measured:
    """Raises DeattribError where the scorer cannot be made, fitted or asked about the audited owners."""
    scorer = spec if isinstance(spec, Scorer) else spec() if isinstance(spec, type) else registry.make(spec)
    origin = str(registry.origin(type(scorer)))
    guard = GuardedScorer(scorer, codec=context.codec, name=scorer.name, origin=origin, settings=guarding)
    notes: list[str] = []
    try:
        guard.fit(context)
        fit_seconds = guard.seconds
        scores = _ask(guard, probes.rows, owners)
        everybody = None
        if all_owners:
            try:
                everybody = _ask(guard, probes.rows, context.owners)
            except DeattribError as error:
                notes.append(f"no LDS: {error}")
        calibration, attribution = None, None
        own = scores[np.arange(len(probes)), [list(owners).index(owner) for owner in probes.rows.owners]]
        try:
            calibration = _calibrate(guard, witnesses, settings)
            attribution = _attribution(own, calibration, probes.rows)
        except CalibrationError as error:
            notes.append(f"no calibrated attribution: {error}")
        timed = timing_rows(probes)
        seconds = best_time(lambda: guard.score(timed)) / len(timed)
    finally:
        guard.close()
    report = calibration.report if calibration is not None else None
    return Measured(
        label, scorer.fidelity, guard.origin, scores, everybody, attribution, report, tuple(notes), fit_seconds, seconds
    )


def timing_rows(probes: Probes) -> Rows:
    """The same few sampled answers for every scorer and for the forward that is the unit."""
    count = sum(kind == "original" for kind in probes.kinds)  # these come first
    return probes.rows[: min(count, TIMED_ROWS)]


def best_time(action: Callable[[], object]) -> float:
    """Seconds of the fastest of a few calls, after one that warms up: other processes only ever add time."""
    action()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def _ask(guard: GuardedScorer, rows: Rows, owners: Sequence[str]) -> Array:
    parts = [guard.score_owners(rows[start : start + AT_ONCE], owners) for start in range(0, len(rows), AT_ONCE)]
    values: Array = torch.cat(parts).cpu().double().numpy()
    return values


def _calibrate(guard: GuardedScorer, witnesses: Witnesses, settings: CalibrationSettings) -> Calibration | None:
    """The scale that a run would measure; None for a control, which has none."""
    if guard.fidelity == "control" and guard.calibrate_as() is guard:
        return None
    return measure_scale(guard, witnesses, settings)


def _attribution(own: Array, calibration: Calibration | None, rows: Rows) -> Array | None:
    if calibration is None:
        return own if ((own >= 0) & (own <= 1)).all() else None
    values: Array = calibration(torch.from_numpy(own).float(), rows.batch.response_lengths.cpu()).cpu().double().numpy()
    return values
