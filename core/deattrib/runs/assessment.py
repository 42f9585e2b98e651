"""The table of a run: evaluations of its models, what scorers and metrics say of them, one row each.

`deattrib run` and `deattrib evaluate` both come through here, so that a model has the same figures whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deattrib.attribution.attributor import Attributor
from deattrib.corpus.types import Corpus
from deattrib.errors import CalibrationError, CorpusError, ScorerError
from deattrib.evaluation.arrays import Array, mean_of
from deattrib.evaluation.gibberish import GibberishDetector
from deattrib.evaluation.intervals import cluster_bootstrap
from deattrib.evaluation.likelihood import AnswerLikelihoods
from deattrib.evaluation.metric import Subject
from deattrib.evaluation.rows import Evaluation, evaluate_parts, evaluation_rows
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.evaluation.summary import answers_under, summarise
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.runs.attributions import attribute, other_attributions
from deattrib.runs.evaluated import evaluate_cached
from deattrib.runs.metrics import apply_metrics, check_free, choose_metrics, described
from deattrib.runs.session import Session

Stage = Callable[[str, str], None]
Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Judges:
    """Who attributes: the reward and the referee, fitted, with the session that can fit more; and the original's codec."""

    session: Session
    reward: Attributor
    referee: Attributor
    codec: Codec


@dataclass(frozen=True, slots=True)
class Assessment:
    """Everything known of some models.

    Attributes:
        evaluations: by row; None where there is no such model.
        attributions: row -> "attribution" (the referee's) and "reward_attribution" -> [N] over forget rows.
        under_oracle: row -> likelihoods of its greedy answers to forget rows under the oracle; None without an oracle.
        rows: row -> figures, as in `metrics.json`.
        metrics: what was measured on top: name -> origin, source, seconds, columns.
        scorers: who attributed beside referee and reward.
        warnings: what failed, each naming plugin and version.
    """

    evaluations: Mapping[str, Evaluation | None]
    attributions: Mapping[str, Mapping[str, Array]]
    under_oracle: Mapping[str, AnswerLikelihoods | None]
    rows: Mapping[str, dict[str, Any] | None]
    metrics: Mapping[str, Any]
    scorers: Mapping[str, Any]
    warnings: tuple[str, ...]


def assess(
    models: Mapping[str, LanguageModel | None],
    corpus: Corpus,
    settings: EvaluationSettings,
    judges: Judges | None,
    *,
    weights: Mapping[str, str],
    base: LanguageModel | None,
    registry: Any,
    cache: Path,
    stage: Stage,
    warn: Warn,
    spare: bool = False,
) -> Assessment:
    """Evaluate models and make a row of each.

    Args:
        models: by row; "oracle" and "original" are what the others are compared with. None: a row without figures.
        judges: None leaves the attributions out.
        weights: fingerprints of models that do not change, by row; their evaluations are kept.
        base: the model before any owner.
        warn: is told at once of what is also in the result's `warnings`.
        spare: a second processor is free.

    Raises:
        DeattribError: a metric or scorer that is asked for cannot be had; what merely fails is a warning.
    """
    chosen = choose_metrics(settings.metrics, registry)
    warnings: list[str] = []

    def tell(message: str) -> None:
        warnings.append(message)
        warn(message)

    evaluations = _evaluate(models, corpus, settings, weights, stage, cache, spare)
    there = {name: evaluation for name, evaluation in evaluations.items() if evaluation is not None}
    detector = _detector(corpus, tell)
    attributions = _attributions(judges, there, tell)
    oracle = there.get("oracle")
    rows: dict[str, dict[str, Any] | None] = dict.fromkeys(evaluations)
    under_oracle = {name: answers_under(models.get("oracle"), evaluation) for name, evaluation in there.items()}
    for name, evaluation in there.items():
        rows[name] = summarise(
            evaluation, oracle, detector=detector, attribution=attributions[name], under_oracle=under_oracle[name]
        )
    check_free(chosen, {key: None for row in rows.values() if row for key in row})
    asked = {name: model for name, model in models.items() if model is not None}
    subjects = {name: Subject(name, model, there[name], corpus, settings, detector, base) for name, model in asked.items()}
    if chosen:
        stage("evaluate", ", ".join(item.metric.name for item in chosen))
    filled, seconds = apply_metrics(chosen, subjects, weights=weights, cache=cache, warn=tell)
    for name, parts in filled.items():
        row = rows[name]
        assert row is not None
        for part in parts:
            row |= part.figures
            row["intervals"] |= part.intervals
    scorers = _judge(judges, there, attributions, rows, stage, tell)
    return Assessment(evaluations, attributions, under_oracle, rows, described(chosen, seconds), scorers, tuple(warnings))


def _evaluate(
    models: Mapping[str, LanguageModel | None],
    corpus: Corpus,
    settings: EvaluationSettings,
    weights: Mapping[str, str],
    stage: Stage,
    cache: Path,
    spare: bool,
) -> dict[str, Evaluation | None]:
    """The evaluation of each row of the table; those of frozen models from the cache where they are there."""
    parts = evaluation_rows(corpus, settings)
    evaluations: dict[str, Evaluation | None] = {}
    for name, model in models.items():
        if model is None:
            evaluations[name] = None
            continue
        stage("evaluate", name)
        known = weights.get(name)
        if known is None:
            evaluations[name] = evaluate_parts(model, parts, settings, side_by_side=spare)
        else:
            evaluations[name] = evaluate_cached(model, parts, settings, weights=known, cache=cache)
    return evaluations


def _detector(corpus: Corpus, tell: Warn) -> GibberishDetector | None:
    try:
        return GibberishDetector.of_corpus(corpus)
    except CorpusError as error:
        tell(f"Gibberish is not measured: {error}")
        return None


def _attributions(judges: Judges | None, there: Mapping[str, Evaluation], tell: Warn) -> dict[str, dict[str, Array]]:
    """By the referee and by the reward, whose failing costs its column (NaN): the loop is over."""
    if judges is None:
        return {name: {} for name in there}
    found: dict[str, dict[str, Array]] = {}
    for name, evaluation in there.items():
        found[name] = {"attribution": attribute(judges.referee, judges.codec, evaluation.forget).numpy()}
        try:
            found[name]["reward_attribution"] = attribute(judges.reward, judges.codec, evaluation.forget).numpy()
        except (ScorerError, CalibrationError) as error:
            if judges.reward.policy_changed:  # no figure from here on would be the unlearned model's
                raise
            tell(f"What the reward says of the {name} model's answers is not known: {error}")
            found[name]["reward_attribution"] = np.full(len(evaluation.forget), np.nan)
    return found


def _judge(
    judges: Judges | None,
    there: Mapping[str, Evaluation],
    attributions: Mapping[str, Mapping[str, Array]],
    rows: Mapping[str, dict[str, Any] | None],
    stage: Stage,
    tell: Warn,
) -> dict[str, Any]:
    """Adds "attributions" (and their intervals) to the rows; returns what is said of the scorers."""
    if judges is None:
        return {}
    known = {name: values["reward_attribution"] for name, values in attributions.items()}
    values, told = other_attributions(judges.session, there, judges.codec, judges.reward, known, stage=stage, warn=tell)
    for name, by_scorer in values.items():
        row, part, settings = rows[name], there[name].forget, there[name].settings
        assert row is not None
        row["attributions"] = {key: None if column is None else mean_of(column) for key, column in by_scorer.items()}
        for key, column in by_scorer.items():
            if column is None or not len(column):
                continue
            low, high = cluster_bootstrap(
                np.asarray(column, dtype=np.float64),
                part.clusters,
                seed=settings.seed,
                samples=settings.interval_samples,
                level=settings.interval_level,
            )
            row["intervals"][f"attributions.{key}"] = [low, high]
    return told
