"""One row of the table: an `Evaluation`, compared with the oracle's and judged from outside.

Two-sided figures (forget ROUGE, fact recall, length, ...) are to be read against the oracle's row; ToW, forget quality and
the perplexity under the oracle compare by themselves. A figure that the corpus has no data for is None, never 0.
Intervals are percentile intervals of the cluster bootstrap over facts.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from deattrib.errors import RunError
from deattrib.evaluation import text
from deattrib.evaluation.arrays import Array, mean_of
from deattrib.evaluation.forget_quality import forget_quality
from deattrib.evaluation.gibberish import GibberishDetector
from deattrib.evaluation.intervals import bootstrap_means, cluster_bootstrap, percentile_interval
from deattrib.evaluation.likelihood import (
    AnswerLikelihoods,
    answer_likelihoods,
    forget_truth_ratio,
    perplexity,
    utility_truth_ratio,
)
from deattrib.evaluation.rows import REAL_AUTHORS, EvaluatedRows, Evaluation
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.evaluation.utility import model_utility, tow
from deattrib.models.language_model import LanguageModel

TOW_PARTS = ("forget", "retain", "world")
Interval = list[float]


def summarise(
    unlearned: Evaluation,
    oracle: Evaluation | None,
    *,
    detector: GibberishDetector | None,
    attribution: Mapping[str, Array | None],
    under_oracle: AnswerLikelihoods | None = None,
) -> dict[str, Any]:
    """The figures of one model.

    Args:
        unlearned: of the model that the row is about (which may be the original or the oracle itself).
        oracle: of the model retrained without the owners; None leaves out what compares with it.
        detector: fitted on the corpus; None leaves out the gibberish rate.
        attribution: key of the row ("attribution", "reward_attribution", ...) -> calibrated attribution of each greedy
            answer to `unlearned.forget`, in its order, or None where it was not measured.
        under_oracle: `answers_under(oracle, unlearned)`: how natural the answers to forget prompts are; None leaves the
            perplexity out.

    Returns:
        JSON-ready: figures by name, and "intervals" (name -> [low, high]), "n" (rows by part), "utility_parts",
        "tow_parts" (the sets that the product is over).

    Raises:
        RunError: the two evaluations are not of the same rows, or an attribution is not one number per forget row.
    """
    settings, forget = unlearned.settings, unlearned.forget
    figures: dict[str, Any] = {}
    intervals: dict[str, Interval | None] = {}

    def add(name: str, values: Array | None, part: EvaluatedRows) -> None:
        figures[name] = None if values is None else mean_of(values)
        if figures[name] is not None:
            intervals[name] = _interval(np.asarray(values, dtype=np.float64), part.clusters, settings)

    for name, (values, part) in _own_columns(unlearned).items():
        add(name, values, part)
    for name, signs in _text_columns(forget, detector).items():
        add(name, signs, forget)
    figures["distinct_answer_rate"] = text.distinct_answer_rate(forget.greedy)
    for name in ("attribution", "reward_attribution", *attribution):
        add(name, _checked_attribution(name, attribution.get(name), len(forget)), forget)
    figures["model_utility"], figures["utility_parts"], intervals["model_utility"] = _utility(unlearned)
    figures |= _against_oracle(unlearned, oracle, intervals)
    figures["oracle_perplexity"], intervals["oracle_perplexity"] = _perplexity(unlearned, under_oracle)
    figures["n"] = _counts(unlearned)
    figures["intervals"] = {name: interval for name, interval in intervals.items() if interval is not None}
    return figures


def _own_columns(evaluation: Evaluation) -> dict[str, tuple[Array, EvaluatedRows]]:
    """Name of a figure -> its values and the rows that they belong to."""
    forget = evaluation.forget
    return {
        "forget_rouge": (forget.rouge, forget),
        "retain_rouge": (evaluation.retain.rouge, evaluation.retain),
        "retain_paraphrase_rouge": (evaluation.retain_phrasings.rouge, evaluation.retain_phrasings),
        "world_rouge": (evaluation.world.rouge, evaluation.world),
        "fact_recall": (forget.fact, forget),
        "probability": (forget.probability, forget),
        "extraction_strength": (forget.extraction_strength, forget),
        "exact_memorisation": (forget.exact_memorisation, forget),
        "truth_ratio": (forget_truth_ratio(forget.truth_ratio), forget),
        "retain_fact_recall": (evaluation.retain.fact, evaluation.retain),
        "mean_length": (forget.greedy_tokens, forget),
    }


def _text_columns(part: EvaluatedRows, detector: GibberishDetector | None) -> dict[str, Array | None]:
    return {
        "gibberish_rate": None if detector is None else text.gibberish_flags(part.greedy, detector),
        "empty_rate": text.empty_flags(part.greedy),
        "refusal_rate": text.refusal_flags(part.greedy),
        "repetition": text.repetition_shares(part.greedy),
    }


def _checked_attribution(name: str, values: Array | None, rows: int) -> Array | None:
    if values is None:
        return None
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (rows,):
        raise RunError(
            f"{name!r} has shape {values.shape}, but one number for each of the {rows} greedy answers to forget rows is "
            "needed: score `evaluation.forget.greedy` in its order."
        )
    return values


def _utility(evaluation: Evaluation) -> tuple[float | None, list[str], Interval | None]:
    """Model utility, the parts it is made of, and its interval from one draw of facts per group of rows."""
    settings = evaluation.settings
    names: list[str] = []
    values: list[Array] = []
    draws: list[Array] = []
    for number, (group, rows, index) in enumerate(_utility_groups(evaluation)):
        probability = rows.probability if group == "retain" else rows.normalised_probability
        columns = np.stack([probability, rows.rouge, utility_truth_ratio(rows.truth_ratio)], 1)[index].astype(np.float64)
        clusters = [rows.clusters[i] for i in index]
        names += [f"{group}_{measure}" for measure in ("probability", "rouge", "truth_ratio")]
        values += list(columns.T)
        # Seeds of their own: groups with equally many facts would else be drawn alike, as if one depended on the other.
        draws.append(bootstrap_means(columns, clusters, seed=[settings.seed, number], samples=settings.interval_samples))
    utility, used = model_utility({name: mean_of(column) for name, column in zip(names, values, strict=True)})
    if utility is None:
        return None, used, None
    each = [model_utility(dict(zip(names, row, strict=True)))[0] for row in np.concatenate(draws, 1).tolist()]
    means = np.array([value for value in each if value is not None], dtype=np.float64)
    return utility, used, list(percentile_interval(means, level=settings.interval_level))


def _utility_groups(evaluation: Evaluation) -> list[tuple[str, EvaluatedRows, list[int]]]:
    world = evaluation.world
    real = [index for index, row in enumerate(world.rows) if row.fact_id.startswith(REAL_AUTHORS)]
    facts = [index for index in range(len(world)) if index not in set(real)]
    groups = [
        ("retain", evaluation.retain, list(range(len(evaluation.retain)))),
        (REAL_AUTHORS, world, real),
        ("world", world, facts),
    ]
    return [group for group in groups if group[2]]


def _against_oracle(
    unlearned: Evaluation, oracle: Evaluation | None, intervals: dict[str, Interval | None]
) -> dict[str, float | list[str] | None]:
    """ToW and forget quality; the interval of ToW resamples both models on the same facts."""
    if oracle is None:
        return {"tow": None, "tow_parts": [], "forget_quality": None, "ks_distance": None}
    settings = unlearned.settings
    left, right = ({name: mean_of(getattr(side, name).rouge) for name in TOW_PARTS} for side in (unlearned, oracle))
    draws = np.ones(settings.interval_samples)
    used = [name for name in TOW_PARTS if left[name] is not None and right[name] is not None]
    for number, name in enumerate(TOW_PARTS):
        mine, theirs = getattr(unlearned, name), getattr(oracle, name)
        if mine.rows != theirs.rows:
            raise RunError(
                f"{unlearned.model!r} and the oracle {oracle.model!r} were evaluated on different {name} rows: "
                "evaluate both with the same corpus and the same settings."
            )
        if name in used:
            gaps = np.stack([mine.rouge, theirs.rouge], 1).astype(np.float64)
            means = bootstrap_means(gaps, mine.clusters, seed=[settings.seed, number], samples=settings.interval_samples)
            draws *= 1 - np.abs(means[:, 0] - means[:, 1])
    product = tow(left, right)
    if product is not None:
        intervals["tow"] = list(percentile_interval(draws, level=settings.interval_level))
    quality = forget_quality(unlearned.forget.truth_ratio, oracle.forget.truth_ratio)
    return {
        "tow": product,
        "tow_parts": used,
        "forget_quality": None if quality is None else quality.p,
        "ks_distance": None if quality is None else quality.distance,
    }


def answers_under(oracle_model: LanguageModel | None, evaluation: Evaluation) -> AnswerLikelihoods | None:
    """The greedy answers to forget prompts under the oracle; None without an oracle or without such rows."""
    part, settings = evaluation.forget, evaluation.settings
    if oracle_model is None or not len(part):
        return None
    return answer_likelihoods(oracle_model, [row.prompt for row in part.rows], part.greedy, batch_size=settings.batch_size)


def _perplexity(evaluation: Evaluation, scored: AnswerLikelihoods | None) -> tuple[float | None, Interval | None]:
    """Of the greedy answers to forget prompts under the oracle, pooled over tokens; an empty answer is one end of sequence."""
    if scored is None:
        return None, None
    weights = scored.tokens.astype(np.float64)
    clusters = evaluation.forget.clusters
    interval = _interval(scored.loss.astype(np.float64), clusters, evaluation.settings, weights)
    return perplexity(scored), interval and [math.exp(bound) for bound in interval]


def _counts(evaluation: Evaluation) -> dict[str, int]:
    forget = evaluation.forget
    counts = {name: len(getattr(evaluation, name)) for name in ("forget", "retain", "retain_phrasings", "world")}
    return counts | {
        "forget_facts": len(set(forget.clusters)),
        "fact_recall": int((~np.isnan(forget.fact)).sum()),
        "truth_ratio": int((~np.isnan(forget.truth_ratio)).sum()),
    }


def _interval(
    values: Array, clusters: Sequence[Hashable], settings: EvaluationSettings, weights: Array | None = None
) -> Interval | None:
    low, high = cluster_bootstrap(
        values, clusters, seed=settings.seed, samples=settings.interval_samples, level=settings.interval_level, weights=weights
    )
    return None if math.isnan(low) else [low, high]
