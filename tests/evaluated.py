"""A model asked about a corpus as a run asks it."""

from __future__ import annotations

from deattrib.corpus.types import Corpus
from deattrib.evaluation.rows import Evaluation, evaluate_parts, evaluation_rows
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.models.language_model import LanguageModel


def evaluate_model(model: LanguageModel, corpus: Corpus, settings: EvaluationSettings) -> Evaluation:
    """Deterministic: greedy answers, seeded choice of rows."""
    return evaluate_parts(model, evaluation_rows(corpus, settings), settings)
