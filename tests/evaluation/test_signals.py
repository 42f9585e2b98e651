"""Membership signals, AUC, privleak and divergences against formulas and second implementations."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from deattrib import PluginRegistry, Rows
from deattrib.attribution.context import make_context
from deattrib.corpus.types import Corpus, Example
from deattrib.evaluation import signals
from deattrib.evaluation.signals import (
    auc_draws,
    lowest_mean,
    order_matrix,
    privleak,
    row_losses,
    row_signals,
    small_batches,
    token_divergences,
)
from deattrib.models.language_model import Codec, LanguageModel

Maker = Callable[..., Any]


def test_signals_by_hand(table_model: Maker) -> None:
    """Each position has the token with p and one other with 1 - p: z = sign(p - 1/2) sqrt((1 - p) / p)."""
    rows = [Example("a", "where", "in Lyon"), Example("a", "when", "now")]
    model = table_model({("where", "in Lyon"): [0.6, 0.25, 0.8], ("when", "now"): [0.1, 0.9]})
    found = row_signals(model, rows)
    losses = [np.log([0.6, 0.25, 0.8]).mean(), np.log([0.1, 0.9]).mean()]
    assert found["loss"] == pytest.approx(losses, rel=1e-5)
    sizes = [len(zlib.compress(row.response.encode())) for row in rows]
    assert found["zlib"] == pytest.approx([loss / size for loss, size in zip(losses, sizes, strict=True)], rel=1e-5)
    assert found["min_k"] == pytest.approx([math.log(0.25), math.log(0.1)], rel=1e-5)
    assert found["min_k_plus_plus"] == pytest.approx([-math.sqrt(3), -3.0], rel=1e-4)


def test_a_fifth_of_the_tokens_counts_and_one_at_least() -> None:
    values = -np.arange(10.0)
    assert lowest_mean(values) == -8.5
    assert lowest_mean(values[:5]) == -4.0
    assert lowest_mean(values[:1]) == 0.0


def test_they_are_what_the_scorers_of_these_names_say(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> None:
    model = LanguageModel(tiny_llama, tiny_codec, name="original")
    rows = tiny_corpus.train[:12]
    found = row_signals(model, rows)
    batch = Rows.from_texts(
        tiny_codec, [row.prompt for row in rows], [row.response for row in rows], [row.owner for row in rows]
    )
    registry = PluginRegistry()
    for name in ("loss", "zlib", "min-k", "min-k-plus-plus"):
        scorer = registry.make(name)
        scorer.fit(make_context(tiny_corpus, model))
        # zlib: the scorer compresses the decoded tokens, which for these texts are the texts.
        assert found[name.replace("-", "_")] == pytest.approx(scorer.score(batch).tolist(), rel=1e-4, abs=1e-5), name


def test_batches_hold_every_row_once_whatever_their_size(
    tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = LanguageModel(tiny_llama, tiny_codec), tiny_corpus.train[:9]
    whole = row_signals(model, rows)
    monkeypatch.setattr(signals, "MOST_LOGITS", 1)
    batches = small_batches(model, rows)
    assert sorted(index for part, _ in batches for index in part) == list(range(9))
    assert {len(part) for part, _ in batches} == {1}
    assert row_losses(model, rows) == pytest.approx(whole["loss"], rel=1e-4)
    for name, values in row_signals(model, rows).items():
        assert values == pytest.approx(whole[name], rel=1e-4, abs=1e-5)


def test_auc_is_sklearns_ties_included() -> None:
    rng = np.random.default_rng(4)
    members, others = rng.integers(0, 5, 30).astype(float), rng.integers(0, 4, 20).astype(float)
    expected = roc_auc_score([1] * 30 + [0] * 20, np.concatenate([members, others]))
    assert order_matrix(members, others).mean() == pytest.approx(expected)


def test_draws_of_whole_facts_are_aucs_of_the_rows_drawn() -> None:
    members, others = np.array([3.0, 1.0, 2.0, 5.0]), np.array([0.0, 2.0, 4.0])
    facts, foreign = ["a", "a", "b", "c"], ["x", "y", "y"]
    draws = auc_draws(order_matrix(members, others), facts, foreign, seed=7, samples=5)
    rng = np.random.default_rng(7)
    left, right = rng.multinomial(3, [1 / 3] * 3, size=5), rng.multinomial(2, [1 / 2] * 2, size=5)
    for draw, a, b in zip(draws, left, right, strict=True):
        mine = [value for value, fact in zip(members, facts, strict=True) for _ in range(a["abc".index(fact)])]
        theirs = [value for value, fact in zip(others, foreign, strict=True) for _ in range(b["xy".index(fact)])]
        expected = roc_auc_score([1] * len(mine) + [0] * len(theirs), mine + theirs)
        assert draw == pytest.approx(expected)


def test_privleak_is_relative_to_the_oracles_miss() -> None:
    assert privleak(0.8, 0.6) == pytest.approx(-50)
    assert privleak(0.4, 0.6) == pytest.approx(50)
    assert privleak(0.6, 0.6) == 0
    assert privleak(0.5, 1.0) is None


def test_divergences_by_hand_and_padding_left_out() -> None:
    first = torch.tensor([[[0.5, 0.5], [0.9, 0.1], [0.3, 0.7]]]).log()
    second = torch.tensor([[[0.25, 0.75], [0.9, 0.1], [0.9, 0.1]]]).log()
    forward, backward = token_divergences(first, second, torch.tensor([2]))
    assert forward == pytest.approx([(0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 2], rel=1e-5)
    assert backward == pytest.approx([(0.25 * math.log(0.5) + 0.75 * math.log(1.5)) / 2], rel=1e-5)


def test_a_token_that_both_rule_out_adds_nothing_and_one_that_the_second_rules_out_much() -> None:
    first, second = torch.tensor([[[0.5, 0.5, 0.0]]]).log(), torch.tensor([[[0.25, 0.75, 0.0]]]).log()
    forward, _ = token_divergences(first, second, torch.tensor([1]))
    assert forward == pytest.approx([0.5 * math.log(2) + 0.5 * math.log(2 / 3)], rel=1e-5)
    forward, backward = token_divergences(first, torch.tensor([[[1.0, 0.0, 0.0]]]).log(), torch.tensor([1]))
    assert 1000 < forward[0] < 1e5 and backward == pytest.approx([math.log(2)], rel=1e-5)
