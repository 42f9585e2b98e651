"""Figures that one forward pass gives: probability, memorisation, truth ratio, perplexity, by hand and against transformers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from deattrib.corpus.types import Example
from deattrib.evaluation.likelihood import (
    answer_likelihoods,
    forget_truth_ratio,
    normalised_probability,
    perplexity,
    row_likelihoods,
    token_figures,
    truth_ratio_of_losses,
    utility_truth_ratio,
)
from deattrib.models.language_model import Codec, LanguageModel

Maker = Callable[..., Any]
LOSSES = st.lists(st.floats(0.0, 20.0), min_size=1, max_size=5)


# -- by hand -----------------------------------------------------------------------------------------------------------
def test_probability_is_the_geometric_mean_of_token_probabilities_with_the_end(table_model: Maker) -> None:
    model = table_model({("where", "in Lyon"): [0.5, 0.25, 0.8]})
    scored = answer_likelihoods(model, ["where"], ["in Lyon"])
    assert scored.probability[0] == pytest.approx((0.5 * 0.25 * 0.8) ** (1 / 3), rel=1e-5)
    assert scored.tokens.tolist() == [3]
    assert scored.loss.dtype == np.float32


@pytest.mark.parametrize(
    ("probabilities", "exact", "strength"),
    [
        ([0.9, 0.9, 0.9, 0.9, 0.1], 1.0, 1.0),  # the end of sequence does not count
        ([0.1, 0.9, 0.9, 0.9, 0.9], 3 / 4, 3 / 4),
        ([0.9, 0.1, 0.9, 0.9, 0.9], 3 / 4, 2 / 4),
        ([0.9, 0.9, 0.9, 0.1, 0.9], 3 / 4, 0.0),  # the whole answer must be given: nothing is extracted
        ([0.1, 0.1, 0.1, 0.1, 0.9], 0.0, 0.0),
    ],
)
def test_memorisation_of_four_words(table_model: Maker, probabilities: list[float], exact: float, strength: float) -> None:
    scored = answer_likelihoods(table_model({("q", "a b c d"): probabilities}), ["q"], ["a b c d"])
    assert scored.exact_memorisation[0] == pytest.approx(exact)
    assert scored.extraction_strength[0] == pytest.approx(strength)


def test_an_empty_answer_is_its_end_of_sequence(table_model: Maker) -> None:
    scored = answer_likelihoods(table_model({("q", ""): [0.5]}), ["q"], [""])
    assert scored.probability[0] == pytest.approx(0.5)
    assert scored.exact_memorisation[0] == scored.extraction_strength[0] == 0


def test_truth_ratio_by_hand_in_both_means(table_model: Maker) -> None:
    row = Example("x", "q", "true", paraphrase_response="same", wrong_responses=("no", "never"))
    model = table_model({("q", "same"): [0.4, 0.4], ("q", "no"): [0.1, 0.1], ("q", "never"): [0.3, 0.3]})
    assert row_likelihoods(model, [row]).truth_ratio[0] == pytest.approx((0.1 + 0.3) / 2 / 0.4, rel=1e-5)
    assert row_likelihoods(model, [row], mean="geometric").truth_ratio[0] == pytest.approx(math.sqrt(0.1 * 0.3) / 0.4, rel=1e-5)


def test_a_row_without_paraphrase_uses_its_answer_and_one_without_wrong_answers_is_left_out(table_model: Maker) -> None:
    model = table_model({("q", "true"): [0.8, 0.8], ("q", "no"): [0.2, 0.2]})
    scored = row_likelihoods(model, [Example("x", "q", "true", wrong_responses=("no",)), Example("x", "q", "true")])
    assert scored.truth_ratio[0] == pytest.approx(0.25, rel=1e-5)
    assert scored.normalised_probability[0] == pytest.approx(0.8 / (0.8 + 0.2), rel=1e-5)
    assert np.isnan(scored.truth_ratio[1])
    assert np.isnan(scored.normalised_probability[1])
    assert scored.answer.probability == pytest.approx([0.8, 0.8], rel=1e-5)


def test_the_truth_ratio_is_read_from_both_sides_on_forget_rows_and_from_one_on_the_others() -> None:
    ratios = np.array([0.5, 2.0, 1.0, np.nan], dtype=np.float32)
    np.testing.assert_allclose(forget_truth_ratio(ratios), [0.5, 0.5, 1.0, np.nan])
    np.testing.assert_allclose(utility_truth_ratio(ratios), [0.5, 0.0, 0.0, np.nan])


def test_perplexity_pools_tokens_not_rows(table_model: Maker) -> None:
    model = table_model({("q", "a b c"): [0.5] * 4, ("q", ""): [0.125]})
    scored = answer_likelihoods(model, ["q", "q"], ["a b c", ""])
    assert perplexity(scored) == pytest.approx(math.exp((4 * math.log(2) + math.log(8)) / 5), rel=1e-5)


def test_one_forward_pass_serves_all_figures_and_equal_texts_are_scored_once(table_model: Maker) -> None:
    model = table_model()
    row_likelihoods(model, [Example("x", "q", "true", wrong_responses=("no", "never"))] * 3)
    assert sum(model.forwards) == 3  # true (also as its own paraphrase), no, never


def test_no_rows_give_no_figures(table_model: Maker) -> None:
    scored = row_likelihoods(table_model(), [])
    assert len(scored.answer.loss) == len(scored.truth_ratio) == 0
    assert math.isnan(perplexity(scored.answer))


# -- properties --------------------------------------------------------------------------------------------------------
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_extraction_strength_is_the_best_prefix_by_trial(right: list[bool]) -> None:
    length = len(right)
    ids = torch.ones(1, length + 1, dtype=torch.int64)
    logits = torch.zeros(1, length + 1, 3)
    for place, hit in enumerate([*right, True]):
        logits[0, place, 1 if hit else 2] = 5.0
    figures = token_figures(logits, ids, torch.tensor([length + 1]))[0]
    best = min(k for k in range(length + 1) if all(right[k:]))
    assert figures[2] == pytest.approx(sum(right) / length)
    assert figures[3] == pytest.approx(1 - best / length)


@given(st.floats(0.0, 20.0), LOSSES)
def test_ratios_stay_in_bounds_and_ignore_the_order_of_wrong_answers(right: float, wrong: list[float]) -> None:
    for mean in ("arithmetic", "geometric"):
        ratio = truth_ratio_of_losses(right, wrong, mean=mean)
        assert ratio > 0
        assert ratio == pytest.approx(truth_ratio_of_losses(right, wrong[::-1], mean=mean))
        assert 0 <= forget_truth_ratio(np.array([ratio]))[0] <= 1
        assert 0 <= utility_truth_ratio(np.array([ratio]))[0] <= 1
    # The mean of exponentials is never below the exponential of the mean (Jensen).
    assert truth_ratio_of_losses(right, wrong) >= truth_ratio_of_losses(right, wrong, mean="geometric") * (1 - 1e-9)
    assert 0 <= normalised_probability(right, wrong) <= 1


def test_a_destroyed_model_gives_a_large_ratio_and_not_infinity() -> None:
    assert np.isfinite(np.float32(truth_ratio_of_losses(1e6, [0.0])))
    assert truth_ratio_of_losses(0.0, [1e6]) > 0


# -- on a real network -------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    torch.manual_seed(0)
    words = [
        "<pad>",
        "</s>",
        "<unk>",
        *["where", "was", "he", "born", "in", "Lyon", "Paris", "city", "of", "the", "old", "north", "who", "wrote", "it"],
    ]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)  # type: ignore[no-untyped-call]
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    return LanguageModel(LlamaForCausalLM(config), Codec(tokenizer, template="{prompt}"))


PROMPTS = ["where was he born", "who wrote it", "where was he born", "who"]
ANSWERS = ["in Lyon", "he wrote it in the old city of Paris", "in the north of the city", ""]


def test_loss_is_that_of_transformers(llama: LanguageModel) -> None:
    scored = answer_likelihoods(llama, PROMPTS, ANSWERS)
    for prompt, answer, loss in zip(PROMPTS, ANSWERS, scored.loss, strict=True):
        question = llama.tokenizer(prompt)["input_ids"]
        reply = [*llama.tokenizer(answer)["input_ids"], llama.tokenizer.eos_token_id]
        labels = torch.tensor([[-100] * len(question) + reply])
        with torch.no_grad():
            expected = llama.model(input_ids=torch.tensor([question + reply]), labels=labels).loss
        assert loss == pytest.approx(float(expected), rel=1e-4)


def test_batching_and_order_change_nothing(llama: LanguageModel) -> None:
    together = answer_likelihoods(llama, PROMPTS, ANSWERS, batch_size=4)
    alone = answer_likelihoods(llama, PROMPTS[::-1], ANSWERS[::-1], batch_size=1)
    for name in ("loss", "tokens", "exact_memorisation", "extraction_strength"):
        np.testing.assert_allclose(getattr(together, name), getattr(alone, name)[::-1], rtol=1e-4, atol=1e-6)
