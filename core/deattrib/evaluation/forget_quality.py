"""Forget quality: can the unlearned model be told from one that never saw the data? (TOFU, section 2.2.1)

Two-sample Kolmogorov-Smirnov test between the per-row truth ratios of the unlearned model and of the oracle on the
forget rows. TOFU reports the p-value alone. It depends on the number of rows (40 rows pass .05 with a distance below
.3) and gibberish can pass it, so distance and counts always come with it, and fluency is reported beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp

from deattrib.evaluation.arrays import Array


@dataclass(frozen=True, slots=True)
class ForgetQuality:
    """p: of the two-sided test, in [0, 1]. distance: largest gap of the two distribution functions, in [0, 1]."""

    p: float
    distance: float
    n_unlearned: int
    n_oracle: int


def forget_quality(unlearned: Sequence[float] | Array, oracle: Sequence[float] | Array) -> ForgetQuality | None:
    """Compare the truth ratios of two models; NaN rows (no wrong answers) are left out. None where either has no rows."""
    left, right = (np.asarray(values, dtype=np.float64) for values in (unlearned, oracle))
    left, right = left[~np.isnan(left)], right[~np.isnan(right)]
    if not len(left) or not len(right):
        return None
    with warnings.catch_warnings():
        # Where the exact p-value under- or overflows, scipy says so and gives the asymptotic one.
        warnings.filterwarnings("ignore", message="ks_2samp: Exact calculation unsuccessful", category=RuntimeWarning)
        result = ks_2samp(left, right)
    return ForgetQuality(float(result.pvalue), float(result.statistic), len(left), len(right))
