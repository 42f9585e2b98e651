"""The built-in metrics, each against a case worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.evaluated import evaluate_model
from torch import nn

from deattrib.corpus.types import Corpus, Example
from deattrib.errors import MetricError
from deattrib.evaluation.columns import Filled, fill
from deattrib.evaluation.metric import Metric, Subject
from deattrib.evaluation.metrics.likeness import OracleKL, QuestionDependence, other_questions
from deattrib.evaluation.metrics.membership import Membership
from deattrib.evaluation.metrics.ratios import ForgetQuality, TruthRatio
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.models.language_model import Codec, LanguageModel

Maker = Callable[..., Any]
SETTINGS = EvaluationSettings(interval_samples=100)
CORPUS = Corpus(
    "hand",
    train=(
        Example("a", "where", "in Lyon", fact_id="a/0", wrong_responses=("in Bonn", "in Rome")),
        Example("a", "when", "at noon", fact_id="a/1", wrong_responses=("at dawn", "at dusk")),
        Example("b", "who", "my uncle", fact_id="b/0"),
    ),
    forget_owners=("a",),
    holdout=(Example("h", "what", "some tea", fact_id="h/0"), Example("h", "whose", "her dog", fact_id="h/1")),
)


def subject(model: Any, corpus: Corpus = CORPUS, *, name: str = "unlearned", **others: Any) -> Subject:
    return Subject(name, model, evaluate_model(model, corpus, SETTINGS), corpus, SETTINGS, **others)


def measured(metric: Metric, one: Subject) -> Subject:
    return replace(one, measured=metric.measure(one))


def filled(metric: Metric, one: Subject) -> Filled:
    """As a run does it: every side measured, then computed."""
    sides = {key: side and measured(metric, side) for key, side in (("oracle", one.oracle), ("original", one.original))}
    return fill(metric, replace(measured(metric, one), **sides))


def test_truth_ratio_by_both_means(table_model: Maker) -> None:
    """Wrong answers .5 and .125 beside .25: (.5 + .125) / 2 / .25 = 1.25, and sqrt(.5 * .125) / .25 = 1."""
    table = {("where", "in Lyon"): [0.25] * 3, ("where", "in Bonn"): [0.5] * 3, ("where", "in Rome"): [0.125] * 3}
    table |= {("when", "at noon"): [0.5] * 3, ("when", "at dawn"): [0.25] * 3, ("when", "at dusk"): [0.0625] * 3}
    figures = filled(TruthRatio(), subject(table_model(table))).figures
    assert figures["truth_ratio_arithmetic"] == pytest.approx((1 / 1.25 + 0.3125) / 2, rel=1e-4)
    assert figures["truth_ratio_geometric"] == pytest.approx((1 + 0.25) / 2, rel=1e-4)


def with_ratios(one: Subject, ratios: list[float]) -> Subject:
    forget = one.evaluation.forget
    given = replace(forget.likelihoods, arithmetic=np.array(ratios), geometric=np.array(ratios) ** 2)
    return replace(one, evaluation=replace(one.evaluation, forget=replace(forget, likelihoods=given)))


def test_forget_quality_with_distance_and_counts(table_model: Maker) -> None:
    """n = m = 4, D = 1/2: 54 of the 70 orders are at least as far apart (exact test)."""
    one = subject(table_model())
    mine, theirs = with_ratios(one, [1, 2, 3, 4, math.nan]), with_ratios(one, [2.5, 3.5, 5, 6])
    figures = filled(ForgetQuality(), replace(mine, oracle=theirs)).figures
    assert figures["ks_distance_arithmetic"] == figures["ks_distance_geometric"] == 0.5
    assert figures["forget_quality_arithmetic"] == pytest.approx(54 / 70)
    assert (figures["forget_quality_n"], figures["forget_quality_n_oracle"]) == (4, 4)
    alone = filled(ForgetQuality(), one)
    assert set(alone.figures.values()) == {None}


def test_membership_against_holdout_beside_the_oracle(table_model: Maker) -> None:
    knows = {("where", "in Lyon"): [0.9] * 3, ("when", "at noon"): [0.8] * 3}
    oracle = subject(table_model({("when", "at noon"): [0.7] * 3}, name="oracle"), name="oracle")
    metric = Membership()
    one = subject(table_model(knows), oracle=oracle, base=table_model())
    whole = filled(metric, one)
    figures = whole.figures
    assert set(figures) == {column.key for column in Membership.columns}
    # The oracle: one of two members above both others, the other level with both: (2 + 2 * .5) / 4.
    assert figures["membership_auc_loss"] == figures["membership_auc_min_k"] == 1
    assert figures["membership_gap_loss"] == figures["membership_gap_min_k"] == 0.25
    assert figures["privleak_loss"] == pytest.approx(-100)
    assert figures["membership_auc_reference"] == 1 and figures["membership_gap_reference"] == 0.25
    assert whole.intervals["membership_auc_loss"] == [1, 1]
    low, high = whole.intervals["membership_gap_loss"]
    assert 0 <= low <= 0.25 <= high <= 0.5


def test_the_reference_is_the_original_where_there_is_no_base(table_model: Maker) -> None:
    knows = {("where", "in Lyon"): [0.9] * 3, ("when", "at noon"): [0.8] * 3}
    original = subject(table_model(knows), name="original")
    forgot = filled(Membership(), subject(table_model(), original=original)).figures
    assert forgot["membership_auc_loss"] == 0.5
    assert forgot["membership_auc_reference"] == 0  # what was unlearned is what has become less likely
    own = filled(Membership(), replace(original, original=original)).figures
    assert own["membership_auc_reference"] is None and own["membership_auc_loss"] == 1


def test_phrasings_never_trained_on_are_no_members(table_model: Maker) -> None:
    corpus = replace(CORPUS, phrasings=(Example("a", "whence", "in Lyon", fact_id="a/0"),))
    arrays = Membership().measure(subject(table_model(), corpus))
    assert {key: len(values) for key, values in arrays.items() if key.endswith("/loss")} == {
        "members/loss": 2,
        "others/loss": 2,
    }


def test_no_holdout_no_membership(table_model: Maker) -> None:
    bare = replace(CORPUS, holdout=())
    assert set(fill(Membership(), subject(table_model(), bare)).figures.values()) == {None}


def test_oracle_kl_is_torchs_row_by_row(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> None:
    import copy

    other = copy.deepcopy(tiny_llama)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    model, oracle = LanguageModel(other, tiny_codec, name="m"), LanguageModel(tiny_llama, tiny_codec, name="oracle")
    settings = EvaluationSettings(forget_rows=5, retain_rows=1, retain_phrasing_rows=1, world_rows=1, max_new_tokens=2)
    sides = {
        name: Subject(name, one, evaluate_model(one, tiny_corpus, settings), tiny_corpus, settings)
        for name, one in (("m", model), ("oracle", oracle))
    }
    values = OracleKL().compute(replace(sides["m"], oracle=sides["oracle"]))
    for index, row in enumerate(sides["m"].evaluation.forget.rows):
        batch = model.encode([row.prompt], [row.response])
        mine, theirs = (one.logits(batch)[0].double().log_softmax(-1) for one in (model, oracle))
        for key, first, second in (("oracle_kl", theirs, mine), ("oracle_kl_reverse", mine, theirs)):
            expected = nn.functional.kl_div(second, first, log_target=True, reduction="sum") / len(first)
            assert values[key][index] == pytest.approx(float(expected), rel=1e-3)
    assert not OracleKL().compute(replace(sides["oracle"], oracle=sides["oracle"]))["oracle_kl"].any()
    foreign = LanguageModel(tiny_llama, Codec(tiny_codec.tokenizer, template="Q: {prompt}\n"))
    with pytest.raises(MetricError, match="other tokenizers"):
        OracleKL().compute(replace(sides["m"], model=foreign, oracle=sides["oracle"]))


def test_answers_that_depend_on_their_question_and_answers_that_do_not(table_model: Maker) -> None:
    answers = {"where": "in Lyon", "when": "at noon"}
    own = {("where", "in Lyon"): [0.5] * 3, ("when", "at noon"): [0.5] * 3}
    depends = filled(QuestionDependence(), subject(table_model(own, answers=answers, otherwise=0.125)))
    assert depends.figures["question_dependence"] == pytest.approx(math.log(4), rel=1e-4)
    assert depends.intervals["question_dependence"] == pytest.approx([math.log(4)] * 2, rel=1e-4)
    stock = filled(QuestionDependence(), subject(table_model(answers=dict.fromkeys(answers, "so it goes"))))
    assert stock.figures["question_dependence"] == 0


def test_no_more_rows_are_asked_than_the_setting_says(table_model: Maker) -> None:
    one = subject(table_model(answers={"where": "in Lyon", "when": "at noon"}))
    values = QuestionDependence(QuestionDependence.Params(rows=1)).measure(one)["values"]
    assert (~np.isnan(values)).sum() == 1 and len(values) == 2


def test_the_other_question_is_about_another_fact() -> None:
    clusters = (("a", "1"), ("a", "1"), ("a", "2"), ("b", "1"))
    chosen = other_questions(clusters, seed=3)
    assert all(other is not None and clusters[other] != own for own, other in zip(clusters, chosen, strict=True))
    assert other_questions(clusters, seed=3) == chosen
    assert other_questions(clusters[:2], seed=3) == [None, None]
