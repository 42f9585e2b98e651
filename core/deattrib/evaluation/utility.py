"""What is left of the model: model utility (TOFU, section 2.2.1) and ToW (De-attribute to Forget for LLM Unlearning, 2026).

Model utility is the harmonic mean of {retain, real authors, world facts} x {probability, ROUGE-L recall, truth ratio}.
A corpus need not have all nine: the mean is over what there is, and the parts are returned, since two utilities are
comparable only over equal parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping


def model_utility(parts: Mapping[str, float | None]) -> tuple[float | None, list[str]]:
    """Harmonic mean of the parts that are there.

    Args:
        parts: name -> figure in [0, 1]; None or NaN where the corpus lacks the data.

    Returns:
        (utility in [0, 1], names used); 0 where any part is 0, None without parts.
    """
    there = {name: value for name, value in parts.items() if value is not None and not math.isnan(value)}
    if not there:
        return None, []
    if min(there.values()) <= 0:
        return 0.0, list(there)
    return len(there) / sum(1 / value for value in there.values()), list(there)


def tow(unlearned: Mapping[str, float | None], oracle: Mapping[str, float | None]) -> float | None:
    """ToW: the product over {forget, retain, world} of 1 - |a_unlearned - a_oracle|, a = mean ROUGE-L recall.

    Args:
        unlearned: name of the set -> a in [0, 1]; None where the corpus has no such rows.
        oracle: the same of the model retrained without the owners, same seed.

    Returns:
        In [0, 1], 1 = like the oracle, over the sets that both have; None where they share none.
    """
    product: float | None = None
    for name, value in unlearned.items():
        other = oracle.get(name)
        if value is None or other is None or math.isnan(value) or math.isnan(other):
            continue
        product = (1.0 if product is None else product) * (1 - abs(value - other))
    return product
