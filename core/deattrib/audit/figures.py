"""From what a scorer said and what is true to the figures of an audit; plain values, NaN where there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deattrib.audit.probes import GENERATED, KINDS, Probes
from deattrib.audit.statistics import (
    Array,
    auroc,
    bootstrap,
    calibration_curve,
    ceiling,
    kendall,
    lds,
    mean_of,
    row_correlations,
    spearman,
    top_one,
)
from deattrib.audit.truth import Truth

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Yardstick:
    """The probes with their exact values, and how intervals are drawn.

    Attributes:
        owners: audited, columns of `truth.exact`.
        samples, seed: of the bootstrap.
    """

    probes: Probes
    truth: Truth
    owners: tuple[str, ...]
    samples: int
    seed: int

    @property
    def column(self) -> Index:
        """[R] which audited owner each row is asked about."""
        place = {owner: number for number, owner in enumerate(self.owners)}
        return np.array([place[owner] for owner in self.probes.rows.owners], dtype=np.int64)

    @property
    def own(self) -> Array:
        """[R] exact value for the row's own owner."""
        values: Array = self.truth.exact[np.arange(len(self.probes)), self.column]
        return values

    @property
    def share(self) -> Array:
        """[R] exact value over its median on the original's own answers, clipped to [0, 1]: comparable with attribution."""
        level = float(np.median(self.own[self.rows("original")]))
        values: Array = np.clip(self.own / level, 0, 1) if level > 0 else np.full(len(self.probes), np.nan)
        return values

    def rows(self, *kinds: str) -> Index:
        return np.array([row for row, kind in enumerate(self.probes.kinds) if kind in kinds], dtype=np.int64)

    def about_same(self, kind: str) -> Index:
        """The original's rows about the owners that rows of another kind are about."""
        asked = {self.probes.rows.owners[row] for row in self.rows(kind)}
        return np.array([row for row in self.rows("original") if self.probes.rows.owners[row] in asked], dtype=np.int64)

    def interval(self, statistic: Callable[[Index], float], rows: Index) -> dict[str, Any]:
        """A statistic of some rows with its cluster-bootstrap interval."""
        clusters = [self.probes.clusters[row] for row in rows]
        low, high = bootstrap(lambda picked: statistic(rows[picked]), clusters, seed=self.seed, samples=self.samples)
        return {"value": statistic(rows), "low": low, "high": high, "rows": len(rows)}


def scorer_figures(scores: Array, everybody: Array | None, attribution: Array | None, yard: Yardstick) -> dict[str, Any]:
    """All figures of one scorer.

    Args:
        scores: [R, O] raw, audited owners. everybody: [R, all owners] raw, or None. attribution: [R] in [0, 1], or None.
    """
    own, exact = scores[np.arange(len(scores)), yard.column], yard.truth.exact
    generated, known = yard.rows(*GENERATED), yard.rows("original", "true")
    original, gibberish = yard.rows("original"), yard.rows("gibberish")
    others = np.arange(len(yard.owners))[None, :] != yard.column[original][:, None]
    return {
        "rows": {
            "spearman": yard.interval(lambda rows: spearman(own[rows], yard.own[rows]), generated),
            "kendall": yard.interval(lambda rows: kendall(own[rows], yard.own[rows]), generated),
        },
        "by_kind": {kind: spearman(own[yard.rows(kind)], yard.own[yard.rows(kind)]) for kind in KINDS},
        "owners": {
            "spearman": _mean_over_rows(row_correlations(scores, exact), known, yard),
            "kendall": _mean_over_rows(np.array([kendall(a, b) for a, b in zip(scores, exact, strict=True)]), known, yard),
        },
        "lds": lds_of(everybody, yard),
        "top1_own": top_one(scores[original], yard.column[original]),
        "top1_exact": top_one(scores[original], exact[original].argmax(1)),
        "auroc_own_other": auroc(own[original], scores[original][others]),
        "auroc_original_oracle": auroc(own[yard.about_same("oracle")], own[yard.rows("oracle")]),
        "auroc_original_gibberish": auroc(own[original], own[gibberish]),
        "means": {
            kind: {
                "rows": len(yard.rows(kind)),
                "raw": mean_of(own[yard.rows(kind)]),
                "attribution": mean_of(attribution[yard.rows(kind)]) if attribution is not None else None,
            }
            for kind in KINDS
        },
        "calibration_curve": calibration_curve(attribution[generated], yard.share[generated])
        if attribution is not None and not np.isnan(yard.share).any()
        else [],
        "drift": _drift(own, attribution, yard),
    }


def truth_figures(yard: Yardstick) -> dict[str, Any]:
    """What is known of the yardstick itself: exact values by kind, agreement between seeds, what it allows at most."""
    truth, generated = yard.truth, yard.rows(*GENERATED)
    by_seed = truth.by_seed[np.arange(len(yard.probes)), yard.column]
    seeds = by_seed.shape[1]
    return {
        "seeds": seeds,
        "means": {kind: mean_of(yard.own[yard.rows(kind)]) for kind in KINDS},
        "standard_error": mean_of(by_seed.std(1, ddof=1) / np.sqrt(seeds)) if seeds > 1 else None,
        "ceiling_rows": ceiling(by_seed[generated][None]),
        "ceiling_owners": ceiling(truth.by_seed[yard.rows("original", "true")]),
        "ceiling_lds": ceiling(truth.halves[yard.rows("original", "true")]) if truth.halves.shape[1] else None,
        "halves": truth.halves.shape[1],
        "half_seeds": truth.halves.shape[2],
    }


def lds_of(everybody: Array | None, yard: Yardstick) -> dict[str, Any] | None:
    """Mean LDS of the original's and the true answers."""
    if everybody is None or not yard.truth.halves.shape[1]:
        return None
    scores = lds(everybody, yard.truth.trained_on, yard.truth.halves.mean(2))
    return _mean_over_rows(scores, yard.rows("original", "true"), yard)


def _mean_over_rows(values: Array, rows: Index, yard: Yardstick) -> dict[str, Any]:
    return yard.interval(lambda picked: mean_of(values[picked]), rows)


def _drift(own: Array, attribution: Array | None, yard: Yardstick) -> list[dict[str, Any]]:
    """Per checkpoint, step 0 being the original asked about the owners that policies are asked about."""
    points = []
    steps = sorted({step for step in yard.probes.steps if step is not None})
    for step in [0, *steps] if steps else []:
        policy = [row for row in yard.rows("policy") if yard.probes.steps[row] == step]
        rows = yard.about_same("policy") if step == 0 else np.array(policy, dtype=np.int64)
        points.append(
            {
                "step": step,
                "rows": len(rows),
                "spearman": spearman(own[rows], yard.own[rows]),
                "attribution": mean_of(attribution[rows]) if attribution is not None else None,
                "exact": mean_of(yard.share[rows]),
            }
        )
    return points
