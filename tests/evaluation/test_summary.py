"""From an evaluation to a row of the table: a model against itself and the oracle, intervals, what the corpus lacks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.evaluated import evaluate_model

from deattrib.corpus.fictitious import fictitious_corpus
from deattrib.corpus.types import Corpus, Example
from deattrib.errors import RunError
from deattrib.evaluation import summary
from deattrib.evaluation.gibberish import GibberishDetector
from deattrib.evaluation.intervals import bootstrap_means
from deattrib.evaluation.rows import Evaluation
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.evaluation.summary import answers_under, summarise

Maker = Callable[..., Any]
SETTINGS = EvaluationSettings(interval_samples=100)
KEYS = (
    "forget_rouge retain_rouge retain_paraphrase_rouge world_rouge tow fact_recall extraction_strength truth_ratio "
    "forget_quality ks_distance attribution reward_attribution gibberish_rate empty_rate distinct_answer_rate mean_length "
    "oracle_perplexity model_utility"
).split()


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return fictitious_corpus(owners=4, facts=4, forget=1, shadow_owners=12, holdout_owners=1)


@pytest.fixture(scope="module")
def detector(corpus: Corpus) -> GibberishDetector:
    return GibberishDetector.of_corpus(corpus)


def rows_of(corpus: Corpus) -> list[Example]:
    return [*corpus.train, *corpus.phrasings, *corpus.world]


@pytest.fixture
def original(corpus: Corpus, table_model: Maker) -> Any:
    """Knows every answer by heart."""
    return table_model(
        {(row.prompt, row.response): [0.9] * (len(row.response.split()) + 1) for row in rows_of(corpus)},
        answers={row.prompt: row.response for row in rows_of(corpus)},
        name="original",
    )


@pytest.fixture
def oracle(corpus: Corpus, table_model: Maker) -> Any:
    """Knows everybody but the forgotten, for whom it gives other owners' answers."""
    known = [row for row in rows_of(corpus) if row.owner not in corpus.forget_owners]
    answers = {row.prompt: row.response for row in known}
    forgotten = [*corpus.forget, *corpus.forget_phrasings]
    answers |= {row.prompt: other.response for row, other in zip(forgotten, corpus.retain, strict=False)}
    table = {(row.prompt, row.response): [0.9] * (len(row.response.split()) + 1) for row in known}
    return table_model(table, answers=answers, name="oracle")


def test_a_model_against_itself(corpus: Corpus, detector: GibberishDetector, oracle: Any) -> None:
    evaluation = evaluate_model(oracle, corpus, SETTINGS)
    row = summarise(evaluation, evaluation, detector=detector, attribution={}, under_oracle=answers_under(oracle, evaluation))
    assert set(KEYS) <= set(row)
    assert (row["tow"], row["forget_quality"], row["ks_distance"]) == (1, 1, 0)
    assert row["retain_rouge"] == row["retain_paraphrase_rouge"] == row["world_rouge"] == 1
    assert row["fact_recall"] < 0.2
    assert row["gibberish_rate"] == row["empty_rate"] == 0
    assert row["attribution"] is row["reward_attribution"] is None
    assert row["oracle_perplexity"] == pytest.approx(4.0)  # every token of a strange answer has .25
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_the_original_against_the_oracle(corpus: Corpus, detector: GibberishDetector, original: Any, oracle: Any) -> None:
    left, right = evaluate_model(original, corpus, SETTINGS), evaluate_model(oracle, corpus, SETTINGS)
    attribution = np.linspace(0, 1, len(left.forget))
    row = summarise(
        left, right, detector=detector, attribution={"attribution": attribution}, under_oracle=answers_under(oracle, left)
    )
    oracle_row = summarise(right, right, detector=detector, attribution={})
    assert row["forget_rouge"] == row["fact_recall"] == row["extraction_strength"] == row["exact_memorisation"] == 1
    assert row["probability"] == pytest.approx(0.9)
    assert row["truth_ratio"] == pytest.approx(0.25 / 0.25 if corpus.forget[0].paraphrase_response else 0.25 / 0.9, rel=1e-4)
    assert row["tow"] == pytest.approx(1 - abs(1 - oracle_row["forget_rouge"]))
    assert row["tow_parts"] == ["forget", "retain", "world"]
    assert row["attribution"] == pytest.approx(0.5)
    assert row["distinct_answer_rate"] == len(set(left.forget.greedy)) / len(left.forget)
    assert row["mean_length"] == pytest.approx(np.mean([len(text.split()) for text in left.forget.greedy]))
    assert row["n"]["forget"] == len(corpus.forget) + len(corpus.forget_phrasings)
    assert row["n"]["forget_facts"] == 4


def test_intervals_hold_their_figure(corpus: Corpus, detector: GibberishDetector, original: Any, oracle: Any) -> None:
    left, right = evaluate_model(original, corpus, SETTINGS), evaluate_model(oracle, corpus, SETTINGS)
    for evaluation in (left, right):
        row = summarise(evaluation, left, detector=detector, attribution={}, under_oracle=answers_under(oracle, evaluation))
        assert {"forget_rouge", "tow", "model_utility", "oracle_perplexity", "gibberish_rate"} <= set(row["intervals"])
        for name, (low, high) in row["intervals"].items():
            assert low - 1e-6 <= row[name] <= high + 1e-6, name


def test_groups_of_rows_are_drawn_apart(corpus: Corpus, original: Any, oracle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the forget and the retain owners are no pair: their draws must not go together in a product or a mean."""
    drawn: list[np.ndarray] = []

    def spy(*arguments: Any, **named: Any) -> Any:
        drawn.append(np.random.default_rng(named["seed"]).random(200))  # what the same seed draws for other rows
        return bootstrap_means(*arguments, **named)

    monkeypatch.setattr(summary, "bootstrap_means", spy)
    left, right = evaluate_model(original, corpus, SETTINGS), evaluate_model(oracle, corpus, SETTINGS)
    row = summarise(left, right, detector=None, attribution={})
    groups = len(row["utility_parts"]) // 3
    assert len(drawn) == groups + len(row["tow_parts"]) and groups >= 2
    for part in (drawn[:groups], drawn[groups:]):
        assert np.abs(np.corrcoef(part) - np.eye(len(part))).max() < 0.3


def test_utility_is_the_harmonic_mean_over_what_the_corpus_has(table_model: Maker) -> None:
    corpus = Corpus(
        "tiny",
        train=(Example("a", "q a", "x"), Example("b", "q b", "y z", wrong_responses=("no",))),
        forget_owners=("a",),
        world=(
            Example("", "w", "Paris", fact_id="world/1", wrong_responses=("Rome",)),
            Example("", "r", "Austen", fact_id="real_authors/1", wrong_responses=("Twain",)),
        ),
    )
    model = table_model(
        {("q b", "y z"): [0.8] * 3, ("q b", "no"): [0.2] * 2, ("w", "Paris"): [0.6] * 2, ("w", "Rome"): [0.3] * 2},
        answers={"q b": "y", "w": "Paris", "r": "Austen"},
        otherwise=0.5,
    )
    row = summarise(evaluate_model(model, corpus, SETTINGS), None, detector=None, attribution={})
    retain, world = [0.8, 1 / 2, 1 - 0.2 / 0.8], [0.6 / 0.9, 1.0, 1 - 0.3 / 0.6]
    assert row["model_utility"] == 0  # the real author's wrong name is as probable as the right one: 1 - R = 0
    assert len(row["utility_parts"]) == 9
    model.table["r", "Twain"] = [0.25] * 2
    row = summarise(evaluate_model(model, corpus, SETTINGS), None, detector=None, attribution={})
    parts = [*retain, *world, 0.5 / 0.75, 1.0, 1 - 0.25 / 0.5]
    assert row["model_utility"] == pytest.approx(9 / sum(1 / part for part in parts), rel=1e-4)


def test_what_the_corpus_lacks_is_none(table_model: Maker) -> None:
    corpus = Corpus("bare", train=(Example("a", "q a", "x"), Example("b", "q b", "y")), forget_owners=("a",))
    evaluation = evaluate_model(table_model(), corpus, SETTINGS)
    row = summarise(evaluation, evaluation, detector=None, attribution={"attribution": None})
    for name in ("retain_paraphrase_rouge", "world_rouge", "fact_recall", "truth_ratio", "forget_quality", "gibberish_rate"):
        assert row[name] is None, name
    assert row["tow_parts"] == ["forget", "retain"]
    assert row["empty_rate"] == 1
    assert row["utility_parts"] == ["retain_probability", "retain_rouge"]
    assert row["model_utility"] == 0


def test_empty_answers_are_judged_by_their_end_of_sequence(corpus: Corpus, table_model: Maker) -> None:
    silent = evaluate_model(table_model(), corpus, SETTINGS)
    row = summarise(
        silent, None, detector=None, attribution={}, under_oracle=answers_under(table_model(otherwise=0.125), silent)
    )
    assert row["oracle_perplexity"] == pytest.approx(8.0)
    assert row["mean_length"] == 0


def test_evaluations_of_other_rows_and_scores_of_another_shape_are_refused(
    corpus: Corpus, detector: GibberishDetector, oracle: Any
) -> None:
    one = evaluate_model(oracle, corpus, SETTINGS)
    other = evaluate_model(oracle, corpus, EvaluationSettings(interval_samples=100, forget_rows=5))
    with pytest.raises(RunError, match="different forget rows"):
        summarise(one, other, detector=detector, attribution={})
    with pytest.raises(RunError, match=r"'attribution' has shape \(3,\)"):
        summarise(one, one, detector=detector, attribution={"attribution": np.zeros(3)})


def test_evaluation_is_a_value(corpus: Corpus, oracle: Any) -> None:
    evaluation: Evaluation = evaluate_model(oracle, corpus, SETTINGS)
    assert math.isclose(float(evaluation.world.rouge.mean()), 1.0)
    with pytest.raises(AttributeError):
        evaluation.model = "other"  # type: ignore[misc]
