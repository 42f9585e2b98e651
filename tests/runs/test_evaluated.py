"""Evaluations kept by content: the same figures, and never another model's or another question's."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from deattrib.corpus.types import Corpus
from deattrib.evaluation.rows import Evaluation, evaluate_parts, evaluation_rows
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.models.language_model import Codec, LanguageModel, fingerprint
from deattrib.runs.evaluated import evaluate_cached

SETTINGS = EvaluationSettings(forget_rows=6, retain_rows=4, retain_phrasing_rows=3, world_rows=3, max_new_tokens=6)


@pytest.fixture
def model(tiny_llama: nn.Module, tiny_codec: Codec) -> LanguageModel:
    return LanguageModel(tiny_llama, tiny_codec, name="original")


def same(first: Evaluation, second: Evaluation) -> bool:
    for name in Evaluation.PARTS:
        one, two = getattr(first, name), getattr(second, name)
        if list(one.records()) != list(two.records()) or one.rows != two.rows:
            return False
        for figure in ("rouge", "fact", "greedy_tokens", "truth_ratio", "normalised_probability", "extraction_strength"):
            a, b = getattr(one, figure), getattr(two, figure)
            if a.dtype != b.dtype or not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
                return False
    return True


def test_what_is_read_back_is_what_was_measured(model: LanguageModel, tiny_corpus: Corpus, tmp_path: Path) -> None:
    parts = evaluation_rows(tiny_corpus, SETTINGS)
    asked: dict[str, Any] = {"weights": fingerprint(model.model), "cache": tmp_path}
    fresh = evaluate_parts(model, parts, SETTINGS)
    assert same(evaluate_parts(model, parts, SETTINGS, side_by_side=True), fresh)
    assert same(evaluate_cached(model, parts, SETTINGS, **asked), fresh)
    (file,) = (tmp_path / "evaluations").iterdir()
    model.generate = None  # type: ignore[method-assign,assignment] # a second measurement would call it
    assert same(evaluate_cached(model, parts, SETTINGS, **asked), fresh)
    more_in_a_batch = SETTINGS.model_copy(update={"batch_size": 3})
    assert same(evaluate_cached(model, parts, more_in_a_batch, **asked), fresh)
    whole = file.read_bytes()
    assert b"ufffd" in whole  # a letter of an answer
    number = bytearray(whole)
    number[-5] ^= 64
    for damaged in (whole[:-9], bytes(number), whole.replace(b"ufffd", b"ufffe", 1)):  # cut off; a figure; an answer
        file.write_bytes(damaged)
        with pytest.raises(TypeError):  # what cannot be believed is measured again
            evaluate_cached(model, parts, SETTINGS, **asked)
    file.write_bytes(whole)
    assert same(evaluate_cached(model, parts, SETTINGS, **asked), fresh)


def test_a_cache_that_cannot_be_written_costs_a_warning_and_no_figure(
    model: LanguageModel, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    (tmp_path / "evaluations").write_text("a file where the folder belongs")
    parts = evaluation_rows(tiny_corpus, SETTINGS)
    with pytest.warns(UserWarning, match="Not kept for another time: .*evaluations.*DEATTRIB_CACHE"):
        found = evaluate_cached(model, parts, SETTINGS, weights=fingerprint(model.model), cache=tmp_path)
    assert same(found, evaluate_parts(model, parts, SETTINGS))


def test_other_weights_questions_or_lengths_are_other_files(model: LanguageModel, tiny_corpus: Corpus, tmp_path: Path) -> None:
    parts = evaluation_rows(tiny_corpus, SETTINGS)
    other = copy.deepcopy(model.model)
    next(other.parameters()).data.mul_(1.5)
    shorter = SETTINGS.model_copy(update={"max_new_tokens": 3})
    fewer = {**parts, "forget": parts["forget"][1:]}
    weights = fingerprint(model.model)
    made = [
        evaluate_cached(model, parts, SETTINGS, weights=weights, cache=tmp_path),
        evaluate_cached(LanguageModel(other, model.codec), parts, SETTINGS, weights=fingerprint(other), cache=tmp_path),
        evaluate_cached(model, parts, shorter, weights=weights, cache=tmp_path),
        evaluate_cached(model, fewer, SETTINGS, weights=weights, cache=tmp_path),
    ]
    assert len(list((tmp_path / "evaluations").iterdir())) == 4
    assert not same(made[0], made[1])


def test_another_template_or_end_is_another_file(model: LanguageModel, tiny_corpus: Corpus, tmp_path: Path) -> None:
    """What a text becomes in ids decides the figures: the same weights and questions are not enough."""
    parts = {name: rows[:1] for name, rows in evaluation_rows(tiny_corpus, SETTINGS).items()}
    codecs = [model.codec, Codec(model.tokenizer, template="Q: {prompt}\n")]
    ends = copy.deepcopy(model.tokenizer)
    ends.eos_token = ends.convert_ids_to_tokens(5)
    codecs.append(Codec(ends))
    chats = [copy.deepcopy(model.tokenizer) for _ in range(2)]
    for tokenizer, text in zip(chats, ("{{ messages[0].content }}>", "{{ messages[0].content }}:"), strict=True):
        tokenizer.chat_template = text
        codecs.append(Codec(tokenizer))
    assert len({codec.fingerprint() for codec in codecs}) == 5
    assert Codec(copy.deepcopy(model.tokenizer)).fingerprint() == model.codec.fingerprint()
    for codec in codecs:
        evaluate_cached(LanguageModel(model.model, codec), parts, SETTINGS, weights="w", cache=tmp_path)
    assert len(list((tmp_path / "evaluations").iterdir())) == 5
