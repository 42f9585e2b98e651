"""Retraining as a scorer may ask for it: the original model, made again without some of the owners.

This is ground truth, not method: a retrained model is what unlearning tries to do without. Scorers of fidelity "exact" and
the audit use it; whatever is optimised must not.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from deattrib.models.language_model import LanguageModel


class Retrainer(Protocol):
    """Makes models by the recipe of the original: same start, rows, order of batches, schedule and number of steps.

    A left-out owner's rows keep their place in the order of batches and are counted in a batch's mean, but give no loss: two
    models of one seed see the other rows at the same steps and with the same weight, whoever is left out. What is taken away is
    the gradient of the owner's rows and nothing else, as in the derivative that influence functions take.
    """

    @property
    def seed(self) -> int:
        """Of the run's own original."""

    def model(self, *, without: Collection[str] = (), seed: int) -> LanguageModel:
        """The model trained on everybody but `without`; nobody left out and `seed` the run's: the original itself.

        Slow the first time, then from the cache. Sets the global random state while it trains. Every call loads a new copy.
        """

    def cached(self, *, without: Collection[str] = (), seed: int) -> bool:
        """Whether `model` would only load."""

    def seconds(self) -> float:
        """Measured or recorded time to make one model."""
