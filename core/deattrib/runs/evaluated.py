"""Evaluations of frozen models, kept by content: original and oracles are the same in every run that shares them.

One file per model and set of questions, named by a hash of weights, questions, settings and library versions; a file
that cannot be read, or was changed (`deattrib.runs.kept`), is made again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deattrib.corpus.types import Example
from deattrib.evaluation.likelihood import AnswerLikelihoods, RowLikelihoods
from deattrib.evaluation.rows import EvaluatedRows, Evaluation, evaluate_parts
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.models.language_model import LanguageModel
from deattrib.runs.kept import keep, kept
from deattrib.runs.keys import cache_key

Parts = Mapping[str, Sequence[Example]]
SCHEMA = 2  # 2: truth ratios by both means
ANSWER = tuple(field.name for field in dataclasses.fields(AnswerLikelihoods))
PLAIN = ("greedy_tokens", "rouge", "fact")
RATIOS = ("truth_ratio", "normalised_probability", "arithmetic", "geometric")
# Neither the batch size nor what is done with the figures afterwards changes them.
LATER = {"batch_size", "interval_samples", "interval_level", "metrics", "attribution"}


def evaluate_cached(
    model: LanguageModel, parts: Parts, settings: EvaluationSettings, *, weights: str, cache: Path
) -> Evaluation:
    """As `evaluate_parts`, from the cache where this very model was asked the same before.

    Args:
        weights: the model's fingerprint.
        cache: folder; files go to `evaluations/` in it.
    """
    path = cache / "evaluations" / f"{_key(model, parts, settings, weights)}.safetensors"
    found = _read(path, parts, settings, model.name)
    if found is not None:
        return found
    evaluation = evaluate_parts(model, parts, settings)
    keep(path, *_stored(evaluation))
    return evaluation


def _key(model: LanguageModel, parts: Parts, settings: EvaluationSettings, weights: str) -> str:
    questions = {name: [dataclasses.asdict(row) for row in rows] for name, rows in parts.items()}
    content = {
        "schema": SCHEMA,
        "weights": weights,
        "questions": questions,
        "settings": settings.model_dump(mode="json", exclude=LATER),
    }
    return cache_key(content, model)


def _stored(evaluation: Evaluation) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    arrays: dict[str, NDArray[Any]] = {}
    answers: dict[str, Sequence[str]] = {}
    for name in Evaluation.PARTS:
        part: EvaluatedRows = getattr(evaluation, name)
        answers[name] = part.greedy
        arrays |= {f"{name}/{key}": getattr(part, key) for key in PLAIN}
        arrays |= {f"{name}/answer/{key}": getattr(part.likelihoods.answer, key) for key in ANSWER}
        arrays |= {f"{name}/{key}": getattr(part.likelihoods, key) for key in RATIOS}
    return arrays, {"answers": json.dumps(answers)}


def _read(path: Path, parts: Parts, settings: EvaluationSettings, name: str) -> Evaluation | None:
    found = kept(path)
    if found is None:
        return None
    arrays, texts = found
    try:
        answers = json.loads(texts["answers"])
        return Evaluation(name, settings, **{part: _part(part, rows, answers, arrays) for part, rows in parts.items()})
    except (KeyError, ValueError, TypeError):
        return None


def _part(
    name: str, rows: Sequence[Example], answers: Mapping[str, list[str]], arrays: Mapping[str, np.ndarray]
) -> EvaluatedRows:
    greedy = tuple(answers[name])
    if len(greedy) != len(rows):
        raise ValueError("other rows")
    likelihoods = RowLikelihoods(
        AnswerLikelihoods(**{key: arrays[f"{name}/answer/{key}"] for key in ANSWER}),
        **{key: arrays[f"{name}/{key}"] for key in RATIOS},
    )
    return EvaluatedRows(tuple(rows), greedy, likelihoods=likelihoods, **{key: arrays[f"{name}/{key}"] for key in PLAIN})
