"""Paired bootstrap of the score over seeds and facts.

Two sources of chance: which seed (corpus, models, order of rows) and which facts are asked about. Both are drawn with
replacement, seeds first, then facts within each drawn seed (Davison and Hinkley, Bootstrap Methods, 1997, section 3.8:
resampling nested data), all rows of a fact together and the same ones for original, oracle and unlearned model. Draws
depend on seed and facts alone, not on the method: two methods on the same seeds are compared draw by draw, which takes
out what makes a seed easy or hard for both. With few seeds the interval is coarse (three seeds: ten distinct samples).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from deattrib.compare.folders import ComparedRun
from deattrib.compare.score import ATTACKS, FLOOR, LEAST, closenesses, score
from deattrib.evaluation.arrays import Array
from deattrib.evaluation.row_file import RowFigures

# Part of the score -> (part of the evaluation, figure of its rows) whose mean it is.
MEANS = {
    "forget_rouge": ("forget", "rouge"),
    "fact_recall": ("forget", "fact"),
    "attribution": ("forget", "attribution"),
    "retain_rouge": ("retain", "rouge"),
    "retain_paraphrase_rouge": ("retain_phrasings", "rouge"),
    "world_rouge": ("world", "rouge"),
}
EVALUATED = ("forget", "retain", "retain_phrasings", "world")


def resampled(runs: Sequence[ComparedRun], over: Collection[str], *, samples: int, seed: int = 0) -> Array:
    """The median score over seeds in each of `samples` draws, [samples].

    Args:
        runs: of one entry, one per seed; finished.
        over: the parts of the score. A run without figures of single rows keeps its score: then only seeds are drawn.
    """
    count = len(runs)
    chosen = (np.random.default_rng(seed).random((samples, count)) * count).astype(int)
    scores = np.empty((samples, count))
    for slot in range(count):
        each = np.stack([_scores(run, over, samples=samples, seed=[seed, run.label.seed, slot]) for run in runs])
        scores[:, slot] = each[chosen[:, slot], np.arange(samples)]
    return np.asarray(np.median(scores, axis=1))


def _scores(run: ComparedRun, over: Collection[str], *, samples: int, seed: Sequence[int]) -> Array:
    """Scores of one run with its facts drawn anew, [samples]."""
    parts = closenesses(run.rows)
    draws = {} if run.figures is None else _draws(run.figures, samples, seed)
    total = np.zeros(samples)
    for key in over:
        values = None if run.figures is None or key == ATTACKS else _closeness(run.figures, key, draws)
        fixed = np.full(samples, parts.get(key, np.nan))
        total += np.log(fixed if values is None else np.where(np.isnan(values), fixed, values))
    whole = score(parts, over)
    return np.exp(total / len(over)) if whole is not None else np.full(samples, np.nan)


def _draws(figures: RowFigures, samples: int, seed: Sequence[int]) -> dict[str, Array]:
    """Part of the evaluation -> how often each of its rows was drawn, [samples, N]."""
    found: dict[str, Array] = {}
    for number, part in enumerate(EVALUATED):
        labels = figures.clusters.get(part, ())
        if labels:
            names = {name: index for index, name in enumerate(dict.fromkeys(labels))}
            rng = np.random.default_rng([*seed, number])
            counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=samples)
            found[part] = counts[:, [names[label] for label in labels]].astype(np.float64)
    return found


def _closeness(figures: RowFigures, key: str, draws: dict[str, Array]) -> Array | None:
    """Closeness of one part in each draw, [samples]; None where the run has no rows for it."""
    mine, original, oracle = (_figure(figures, model, key, draws) for model in ("unlearned", "original", "oracle"))
    if mine is None or original is None or oracle is None:
        return None
    closeness: Array = np.maximum(LEAST, 1 - np.abs(mine - oracle) / np.maximum(np.abs(original - oracle), FLOOR))
    return closeness


def _figure(figures: RowFigures, model: str, key: str, draws: dict[str, Array]) -> Array | None:
    if key == "ks_distance":
        mine, oracle = figures.of(model, "forget", "truth_ratio"), figures.of("oracle", "forget", "truth_ratio")
        return None if mine is None or oracle is None else ks_distances(mine, oracle, draws["forget"])
    if key == "oracle_perplexity":
        loss, tokens = figures.of(model, "forget", "loss"), figures.of(model, "forget", "tokens")
        return None if loss is None or tokens is None else np.exp(_means(loss, draws["forget"] * tokens))
    part, column = MEANS[key]
    values = figures.of(model, part, column)
    return None if values is None or part not in draws else _means(values, draws[part])


def _means(values: Array, weights: Array) -> Array:
    """Weighted means [samples] of values [N] with weights [samples, N]; NaN values are left out."""
    there = ~np.isnan(values)
    total = weights[:, there].sum(1)
    means: Array = np.divide(
        weights[:, there] @ values[there].astype(np.float64), total, out=np.full(len(total), np.nan), where=total > 0
    )
    return means


def ks_distances(left: Array, right: Array, weights: Array) -> Array:
    """Largest gap of the two distribution functions when rows have weights, [samples].

    Args:
        left, right: a figure of the same N rows in two models; NaN rows are left out.
        weights: [samples, N], how often each row counts, the same for both.
    """
    values = np.concatenate([left, right]).astype(np.float64)
    both = np.concatenate([weights, weights], axis=1)
    first = np.arange(len(values)) < len(left)
    order = np.argsort(values, kind="stable")
    order = order[~np.isnan(values[order])]
    ends = np.append(np.diff(values[order]) > 0, True)  # equal values are one step of the distribution function
    sides = []
    for side in (first, ~first):
        steps = np.cumsum(both[:, order] * side[order], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            sides.append(steps[:, ends] / steps[:, -1:])
    distances: Array = np.abs(sides[0] - sides[1]).max(axis=1)
    return distances
