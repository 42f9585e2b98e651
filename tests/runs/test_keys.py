"""Names by content do not change by themselves: caches and run folders that are there stay found."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from deattrib import AttackSubject, Metric, PluginRegistry, RunConfig, Subject
from deattrib.corpus.types import Corpus
from deattrib.evaluation import metric as metric_module
from deattrib.evaluation.rows import evaluate_parts, evaluation_rows
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.runs.attacked import _key as attack_key
from deattrib.runs.attacked import choose_attacks
from deattrib.runs.evaluated import _key as evaluation_key
from deattrib.runs.keys import cache_key, digest_of
from deattrib.runs.measured import _key as measure_key

SETTINGS = EvaluationSettings(forget_rows=2, retain_rows=2, retain_phrasing_rows=1, world_rows=1, max_new_tokens=2)
LATER = ("batch_size", "interval_samples", "interval_level", "metrics", "attribution")


@pytest.fixture
def model(tiny_llama: nn.Module, tiny_codec: Codec) -> LanguageModel:
    return LanguageModel(tiny_llama, tiny_codec, name="original")


def sha(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def about(model: LanguageModel) -> dict[str, Any]:
    """What every key has, written out."""
    versions = {"deattrib": version("deattrib"), "torch": version("torch")}
    versions |= {"transformers": version("transformers"), "peft": version("peft")}
    return {"codec": model.codec.fingerprint(), "device": "cpu", "versions": versions}


def settings_without(*names: str) -> dict[str, Any]:
    return {key: value for key, value in SETTINGS.model_dump(mode="json").items() if key not in names}


def test_the_key_of_an_evaluation(model: LanguageModel, tiny_corpus: Corpus) -> None:
    parts = evaluation_rows(tiny_corpus, SETTINGS)
    questions = {name: [dataclasses.asdict(row) for row in rows] for name, rows in parts.items()}
    content = {"schema": 2, "weights": "w", "questions": questions, "settings": settings_without(*LATER), **about(model)}
    assert evaluation_key(model, parts, SETTINGS, "w") == sha(content)[:32]


def test_the_key_of_an_attack(model: LanguageModel, tiny_corpus: Corpus) -> None:
    (chosen,) = choose_attacks(["sampling"], PluginRegistry())
    subject = AttackSubject("original", model, tiny_corpus, SETTINGS, 3)
    params = PluginRegistry().attack("sampling").Params().model_dump(mode="json")
    content = {
        "schema": 2,
        "attack": ["sampling", str(chosen.origin), params],
        "weights": "w",
        "corpus": tiny_corpus.fingerprint(),
        "settings": settings_without("metrics", "attribution"),
        "seed": 3,
        **about(model),
    }
    assert attack_key(chosen, subject, "w") == sha(content)[:32]


def test_the_key_of_what_a_metric_measured(model: LanguageModel, tiny_corpus: Corpus) -> None:
    evaluation = evaluate_parts(model, evaluation_rows(tiny_corpus, SETTINGS), SETTINGS)
    subject = Subject("original", model, evaluation, tiny_corpus, SETTINGS)
    code = hashlib.sha256(Path(str(metric_module.__file__)).read_bytes()).hexdigest()

    class Own(Metric):
        """Of a file that the test knows."""

        name = "own"
        __module__ = "deattrib.evaluation.metric"

    content = {
        "schema": 1,
        "weights": "w",
        "metric": ["own", "here 1", code, {}],
        "corpus": tiny_corpus.fingerprint(),
        "settings": settings_without(*LATER),
        **about(model),
    }
    assert measure_key(Own(), "here 1", subject, "w") == sha(content)[:32]


def test_the_digest_of_settings_is_that_of_their_json() -> None:
    config = RunConfig()
    assert config.digest == digest_of(config.plain()) == sha(config.plain())
    assert digest_of({"b": 1, "a": 2}) == digest_of({"a": 2, "b": 1}) != digest_of({"a": 1, "b": 2})


def test_a_key_is_another_one_for_other_content_and_other_templates(model: LanguageModel) -> None:
    other = LanguageModel(model.model, Codec(model.tokenizer, template="Q: {prompt}\n"))
    keys = {cache_key({"a": 1}, model), cache_key({"a": 2}, model), cache_key({"a": 1}, other)}
    assert len(keys) == 3 and {len(key) for key in keys} == {32}
