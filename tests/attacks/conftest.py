"""A subject on the smallest model, with few rows and short answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from deattrib.attacks.base import AttackSubject
from deattrib.corpus.types import Corpus
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.models.language_model import Codec, LanguageModel

SETTINGS = EvaluationSettings(forget_rows=20, retain_rows=6, max_new_tokens=6, interval_samples=20, batch_size=8)


@pytest.fixture
def subject_of(tiny_codec: Codec, tiny_corpus: Corpus) -> Callable[[nn.Module], AttackSubject]:
    """A model as a subject named "unlearned"."""
    return lambda module: AttackSubject("unlearned", LanguageModel(module, tiny_codec), tiny_corpus, SETTINGS, seed=3)


@pytest.fixture
def subject(subject_of: Callable[[nn.Module], AttackSubject], tiny_llama: nn.Module) -> AttackSubject:
    return subject_of(tiny_llama)
