"""Arrays of one figure per row, NaN where a row lacks what the figure needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def mean_of(values: Array) -> float | None:
    """Mean over the rows that have a figure; None where none has."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None
