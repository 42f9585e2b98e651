"""Truth ratio and forget quality by both means, whichever the run's own columns take.

TOFU's paper averages the probabilities of wrong answers, its code and OpenUnlearning their losses
(`deattrib.evaluation.likelihood`). The two differ by the spread of the wrong answers, so figures of different papers can only
be compared by the same mean. No model is run: the losses are those of the evaluation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deattrib.evaluation.arrays import Array
from deattrib.evaluation.forget_quality import forget_quality
from deattrib.evaluation.likelihood import forget_truth_ratio
from deattrib.evaluation.metric import INFINITE, Column, Metric, Subject

MEANS = ("arithmetic", "geometric")


def ratios_of(subject: Subject, mean: str) -> Array:
    """R of each forget row [N]."""
    ratios: Array = getattr(subject.evaluation.forget.likelihoods, mean)
    return ratios


class TruthRatio(Metric):
    """Likelihood of wrong answers over that of the reworded right one, as mean min(R, 1/R), by either mean."""

    name = "truth-ratio"
    source = "Maini et al. 2024 (TOFU), section 2.2.1; geometric as in Dorna et al. 2025 (OpenUnlearning)"
    needs = ("wrong answers",)
    columns = tuple(
        Column(f"truth_ratio_{mean}", f"min(R, 1/R) on forget rows, {mean} mean over wrong answers.") for mean in MEANS
    )

    def compute(self, subject: Subject) -> dict[str, Any]:
        return {f"truth_ratio_{mean}": forget_truth_ratio(ratios_of(subject, mean)) for mean in MEANS}


class ForgetQuality(Metric):
    """Kolmogorov-Smirnov test between this model's and the oracle's truth ratios, with its distance and its counts."""

    name = "forget-quality"
    source = "Maini et al. 2024 (TOFU), section 2.2.1"
    needs = ("wrong answers", "oracle")
    columns = (
        *(Column(f"forget_quality_{mean}", f"p-value of the test, {mean} mean.", "higher", "p") for mean in MEANS),
        *(Column(f"ks_distance_{mean}", f"Largest gap of the two distributions, {mean} mean.", "lower") for mean in MEANS),
        Column("forget_quality_n", "Rows on this model's side of the test.", "oracle", "number", (0, INFINITE)),
        Column("forget_quality_n_oracle", "Rows on the oracle's side of the test.", "oracle", "number", (0, INFINITE)),
    )

    def compute(self, subject: Subject) -> dict[str, Any]:
        assert subject.oracle is not None
        figures: dict[str, Any] = {}
        for mean in MEANS:
            tested = forget_quality(*(np.asarray(ratios_of(side, mean)) for side in (subject, subject.oracle)))
            if tested is not None:
                figures |= {f"forget_quality_{mean}": tested.p, f"ks_distance_{mean}": tested.distance}
                figures |= {"forget_quality_n": tested.n_unlearned, "forget_quality_n_oracle": tested.n_oracle}
        return figures
