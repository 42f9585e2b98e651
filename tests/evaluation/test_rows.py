"""Which rows are evaluated, and that every figure is of its own row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tests.evaluated import evaluate_model

from deattrib.corpus.types import Corpus, Example
from deattrib.evaluation.rows import choose_rows
from deattrib.evaluation.settings import EvaluationSettings

Maker = Callable[..., Any]


def owner_rows(sizes: dict[str, int]) -> list[Example]:
    return [Example(owner, f"{owner} {index}", "x") for owner, size in sizes.items() for index in range(size)]


def test_rows_are_spread_over_owners_and_keep_their_order() -> None:
    rows = owner_rows({"a": 50, "b": 50, "c": 2})
    chosen = choose_rows(rows, 22, seed=0)
    assert Counter(row.owner for row in chosen) == {"a": 10, "b": 10, "c": 2}
    assert list(chosen) == [row for row in rows if row in set(chosen)]


def test_the_choice_is_seeded_and_all_rows_are_taken_where_they_fit() -> None:
    rows = owner_rows({"a": 30, "b": 30})
    assert choose_rows(rows, 10, seed=1) == choose_rows(rows, 10, seed=1)
    assert choose_rows(rows, 10, seed=1) != choose_rows(rows, 10, seed=2)
    assert choose_rows(rows, 60, seed=1) == tuple(rows)


def test_each_part_has_its_rows_and_figures_are_of_the_same_row(table_model: Maker) -> None:
    corpus = Corpus(
        "small",
        train=(
            Example("anna", "where anna", "in Lyon", fact="Lyon", fact_id="anna/city", wrong_responses=("in Rome",)),
            Example("bert", "where bert", "in Oslo", fact="Oslo", fact_id="bert/city"),
        ),
        forget_owners=("anna",),
        phrasings=(
            Example("anna", "city anna", "Lyon it is", fact="Lyon", fact_id="anna/city"),
            Example("bert", "city bert", "Oslo it is", fact="Oslo", fact_id="bert/city"),
        ),
    )
    model = table_model(
        {("where anna", "in Lyon"): [0.9, 0.8, 0.7], ("where anna", "in Rome"): [0.3, 0.3, 0.3]},
        answers={"where anna": "in LYON", "city anna": "it is", "where bert": "in Oslo"},
        otherwise=0.5,
    )
    result = evaluate_model(model, corpus, EvaluationSettings(batch_size=2))
    assert [row.prompt for row in result.forget.rows] == ["where anna", "city anna"]
    assert result.forget.greedy == ("in LYON", "it is")
    assert result.forget.rouge == pytest.approx([1.0, 2 / 3])
    assert result.forget.fact.tolist() == [1.0, 0.0]
    assert result.forget.greedy_tokens.tolist() == [2.0, 2.0]
    right = (0.9 * 0.8 * 0.7) ** (1 / 3)
    assert result.forget.probability == pytest.approx([right, 0.5], rel=1e-5)
    assert result.forget.truth_ratio == pytest.approx([0.3 / right, np.nan], rel=1e-5, nan_ok=True)
    assert result.forget.clusters == (("anna", "anna/city"),) * 2
    assert result.retain.rouge.tolist() == [1.0]
    assert result.retain_phrasings.greedy == ("",)
    assert result.retain_phrasings.rouge.tolist() == [0.0]
    assert len(result.world) == 0
    record = list(result.forget.records())[1]
    assert record["greedy"] == "it is"
    assert record["truth_ratio"] is None


def test_rows_without_fact_id_are_facts_of_their_own(table_model: Maker) -> None:
    corpus = Corpus("plain", train=tuple(owner_rows({"a": 2, "b": 1})), forget_owners=("a",))
    result = evaluate_model(table_model(), corpus, EvaluationSettings())
    assert len(set(result.forget.clusters)) == 2


def test_settings_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValidationError, match="forget_row"):
        EvaluationSettings(forget_row=3)  # type: ignore[call-arg]
    assert all(field.description for field in EvaluationSettings.model_fields.values())
