"""Membership inference: can the forget rows be told from rows of owners that no model was trained on?

Members are the *trained* rows of the forget owners (phrasings never trained on are nobody's members), the others come from
`corpus.holdout`, at most `evaluation.forget_rows` of each. The oracle's AUC need not be .5: two sets of people are never alike
in everything. So an AUC means something beside the oracle's only, and what counts is the distance.

The reference signal is the mean token log-likelihood less that of a model without the owner, the base model (Carlini et al.
2021, section 5.2, with any reference). Where there is none it is less the original's: then it says what unlearning has
changed, whatever was a member before; the original's own row is empty.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from deattrib.corpus.types import Example
from deattrib.errors import MetricError
from deattrib.evaluation.arrays import Array
from deattrib.evaluation.intervals import percentile_interval
from deattrib.evaluation.metric import INFINITE, Column, Figure, Metric, Subject
from deattrib.evaluation.rows import choose_rows, clusters_of
from deattrib.evaluation.signals import SIGNALS, auc_draws, order_matrix, privleak, row_losses, row_signals

ALL = (*SIGNALS, "reference")
LABELS = {"loss": "loss", "zlib": "zlib", "min_k": "min-k %", "min_k_plus_plus": "min-k %++", "reference": "reference"}
Pair = tuple[Array, Array]


class Membership(Metric):
    """How well five membership signals tell the forget rows from rows of owners that no model was trained on."""

    name = "membership-inference"
    source = "Shi et al. 2024 (MUSE), section 3.2 for privleak; the signals' papers in deattrib.evaluation.signals"
    needs = ("holdout",)
    columns = (
        *(
            Column(f"membership_auc_{key}", f"AUC of the {label} signal, forget rows positive.")
            for key, label in LABELS.items()
        ),
        *(
            Column(f"membership_gap_{key}", f"|AUC - the oracle's AUC| of the {label} signal.", "lower")
            for key, label in LABELS.items()
        ),
        *(
            Column(
                f"privleak_{key}",
                f"Relative distance of 1 - AUC to the oracle's in per cent, {label} signal; below 0: better known than there.",
                "oracle",
                "number",
                (-100.0, INFINITE),
            )
            for key, label in LABELS.items()
        ),
    )

    def __init__(self, params: object = None) -> None:
        super().__init__(params)  # type: ignore[arg-type]
        # The base model is the same for every row of the table: it is asked once.
        self._base: tuple[object, Pair] | None = None

    def measure(self, subject: Subject) -> Mapping[str, Array]:
        members, others = member_rows(subject)
        return {
            f"{side}/{name}": values
            for side, rows in (("members", members), ("others", others))
            for name, values in row_signals(subject.model, rows).items()
        }

    def compute(self, subject: Subject) -> dict[str, float | Figure | None]:
        members, others = member_rows(subject)
        if not members or not others:
            return {}
        clusters = clusters_of(members), clusters_of(others)
        figures: dict[str, float | Figure | None] = {}
        for key in ALL:
            mine = self._signals(subject, subject, key)
            if mine is None:
                continue
            value, draws = self._auc(mine, clusters, subject)
            figures[f"membership_auc_{key}"] = Figure(value, self._interval(draws, subject))
            theirs = None if subject.oracle is None else self._signals(subject.oracle, subject, key)
            if theirs is None:
                continue
            ideal, their_draws = self._auc(theirs, clusters, subject)
            figures[f"membership_gap_{key}"] = Figure(abs(value - ideal), self._interval(np.abs(draws - their_draws), subject))
            figures[f"privleak_{key}"] = privleak(value, ideal)
        return figures

    def _signals(self, side: Subject, subject: Subject, key: str) -> Pair | None:
        """A signal of the model of `side` on members and others; None where there is nothing to compare it with."""
        if key != "reference":
            return _measured(side, key)
        loss = _measured(side, "loss")
        if subject.base is not None:
            if self._base is None or self._base[0] is not subject.base:
                members, others = member_rows(subject)
                self._base = subject.base, (row_losses(subject.base, members), row_losses(subject.base, others))
            reference = self._base[1]
        elif subject.original is None or subject.original.model is side.model:
            return None
        else:
            reference = _measured(subject.original, "loss")
        return loss[0] - reference[0], loss[1] - reference[1]

    @staticmethod
    def _auc(pair: Pair, clusters: tuple[Sequence[Hashable], Sequence[Hashable]], subject: Subject) -> tuple[float, Array]:
        matrix, settings = order_matrix(*pair), subject.settings
        draws = auc_draws(matrix, *clusters, seed=settings.seed, samples=settings.interval_samples)
        return float(matrix.mean()), draws

    @staticmethod
    def _interval(draws: Array, subject: Subject) -> tuple[float, float]:
        return percentile_interval(draws, level=subject.settings.interval_level)


def member_rows(subject: Subject) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Trained forget rows, and rows of owners that no model was trained on."""
    settings, corpus = subject.settings, subject.corpus
    most, seed = settings.forget_rows, settings.seed
    return choose_rows(corpus.forget, most, seed=seed), choose_rows(corpus.holdout, most, seed=seed)


def _measured(side: Subject, key: str) -> Pair:
    try:
        return side.measured[f"members/{key}"], side.measured[f"others/{key}"]
    except KeyError:
        raise MetricError(f"The {key} signal of {side.name!r} is not in `measured`, where measure() puts it.") from None
