"""One calibrated scorer among those of an `Attributor`: its wall, its scale, its share of the whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deattrib.attribution.calibration import Calibration, fit_calibration
from deattrib.attribution.context import ScorerContext
from deattrib.attribution.guard import GuardedScorer
from deattrib.attribution.scorer import Rows
from deattrib.attribution.settings import CalibrationSettings
from deattrib.attribution.witnesses import Witnesses, true_answers
from deattrib.errors import CalibrationError

PROBED = 4  # answers that are scored twice, to see whether the same question gets the same number


@dataclass(frozen=True, slots=True)
class Part:
    """One calibrated scorer with its share of the whole.

    Attributes:
        repeats: whether it gave the same answers the same scores twice; None: not asked.
    """

    guard: GuardedScorer
    calibration: Calibration | None
    weight: float
    repeats: bool | None = None

    def attribution(self, rows: Rows, ends: Tensor | None) -> Tensor:
        lengths = rows.batch.response_lengths if ends is None else ends
        raw = self.guard.score(rows) if ends is None else self.guard.score_prefixes(rows, ends)
        return self.calibrated(raw, lengths.cpu())  # raw scores are there too

    def calibrated(self, raw: Tensor, lengths: Tensor) -> Tensor:
        """Raw scores of responses of these lengths (tokens) as attribution; both of one shape."""
        if self.calibration is not None:
            return self.calibration(raw, lengths)
        if bool(((raw < 0) | (raw > 1)).any()):
            raise CalibrationError(
                f"Scorer {self.guard.name!r} gives raw scores from {float(raw.min()):.4g} to {float(raw.max()):.4g}; without "
                "calibration they must lie in [0, 1]. Switch calibration on."
            )
        return raw

    def report(self) -> dict[str, Any]:
        """Name, fidelity, weight, calibration quality; and `repeats: false`, only where it is so."""
        guard = self.guard
        told: dict[str, Any] = {
            "name": guard.name,
            "fidelity": guard.scorer.fidelity,
            "weight": self.weight,
            "origin": guard.origin,
            "calibration": self.calibration.report if self.calibration else None,
        }
        if self.repeats is False:
            told["repeats"] = False
        return told


def measure_scale(guard: GuardedScorer, witnesses: Witnesses, settings: CalibrationSettings) -> Calibration:
    """The scale of a fitted scorer, or of the one it wraps, on the answers of `witnesses`."""
    guard = guard.calibrate_as()
    own_ends, other_ends = witnesses.ends()
    return fit_calibration(
        guard.score_prefixes(witnesses.own, own_ends),
        own_ends,
        guard.score_prefixes(witnesses.other, other_ends),
        other_ends,
        scorer=guard.name,
        source=witnesses.source,
        noise_floor=settings.noise_floor,
    )


def varies_and_repeats(guard: GuardedScorer, context: ScorerContext) -> bool | None:
    """For a scorer whose scale nobody measures: that it says different things of true answers, and twice the same of one.

    Not asked of ground truth, which costs too much: None.

    Raises:
        CalibrationError: all of them get the same score.
    """
    if guard.fidelity == "exact":
        return None
    rows = true_answers(context)
    scores = guard.score(rows)
    if float(scores.min()) == float(scores.max()):
        raise CalibrationError(
            f"Scorer {guard.name!r} gives {float(scores[0]):.4g} to each of {len(rows)} true answers, about their own "
            "owners and about others: a reward that never differs teaches nothing. Fit it on more rows, or take another one."
        )
    return repeats_itself(guard, rows)


def repeats_itself(guard: GuardedScorer, rows: Rows) -> bool | None:
    """Whether some of these rows get the same scores twice, to the bit; None for ground truth, which costs too much to ask."""
    if guard.fidelity == "exact":
        return None
    some = rows[:PROBED]
    return torch.equal(guard.score(some), guard.score(some))


def unrepeatable(parts: Iterable[Part]) -> list[str]:
    """A sentence for each scorer that gave the same answers different scores."""
    return [
        f"Scorer {part.guard.name!r} ({part.guard.origin}) gives the same answer different scores: a resumed run will not have "
        "the numbers of an undisturbed one. Seed what is random in it from context.seed and from what it is asked."
        for part in parts
        if part.repeats is False
    ]
