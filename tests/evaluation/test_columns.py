"""What a metric may return, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.evaluated import evaluate_model

from deattrib import Column, Figure, Metric, MetricError, Subject
from deattrib.corpus.types import Corpus, Example
from deattrib.evaluation.columns import fill
from deattrib.evaluation.intervals import cluster_bootstrap
from deattrib.evaluation.settings import EvaluationSettings

SETTINGS = EvaluationSettings(interval_samples=50)
CORPUS = Corpus(
    "c",
    train=tuple(Example(owner, f"{owner} {i}", "x", fact_id=str(i // 2)) for owner in ("a", "b") for i in range(4)),
    forget_owners=("a",),
)


@pytest.fixture
def subject(table_model: Callable[..., Any]) -> Subject:
    model = table_model()
    return Subject("unlearned", model, evaluate_model(model, CORPUS, SETTINGS), CORPUS, SETTINGS)


def returning(value: Any, **attributes: Any) -> Metric:
    """A metric that returns just this."""
    cls: type[Metric] = type("Given", (Metric,), {"name": "given-figure", "compute": lambda self, _: value, **attributes})
    return cls()


def test_one_number_per_row_is_a_mean_with_the_tables_own_interval(subject: Subject) -> None:
    values = [0.0, 1.0, 0.5, float("nan")]
    whole = fill(returning(values), subject)
    assert whole.figures == {"given_figure": 0.5}
    clusters = subject.evaluation.forget.clusters
    expected = cluster_bootstrap(np.array(values), clusters, seed=SETTINGS.seed, samples=50, level=SETTINGS.interval_level)
    assert whole.intervals["given_figure"] == list(expected)


@pytest.mark.parametrize(
    ("value", "figure", "interval"),
    [
        (0.25, 0.25, None),
        (np.float32(2), 2.0, None),
        (None, None, None),
        (float("nan"), None, None),
        ([float("nan")] * 4, None, None),
        (Figure(0.5, (0.25, 1)), 0.5, [0.25, 1.0]),
        (Figure(None), None, None),
    ],
)
def test_other_values(subject: Subject, value: Any, figure: float | None, interval: list[float] | None) -> None:
    whole = fill(returning(value), subject)
    assert whole.figures["given_figure"] == figure
    assert whole.intervals.get("given_figure") == interval


def test_several_columns_by_key_with_rows_of_their_part(subject: Subject) -> None:
    columns = (Column("one", ""), Column("two", "", part="world"), Column("three", "", part="retain"))
    whole = fill(returning({"one": 1.0, "three": np.arange(4.0)}, columns=columns), subject)
    assert whole.figures == {"one": 1.0, "two": None, "three": 1.5}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0, 2.0], r"shape \(2,\), expected one number, or one for each of the 4 forget rows"),
        ([1.0, 2.0, 3.0, float("inf")], "row 3 is infinite"),
        (float("inf"), "expected a finite number"),
        ("many", "not made of numbers"),
        ({"given_figur": 1.0}, "Did you mean 'given_figure'"),
    ],
)
def test_what_cannot_be_used_is_refused(subject: Subject, value: Any, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        fill(returning(value), subject)


def test_a_plain_value_for_several_columns_is_refused(subject: Subject) -> None:
    with pytest.raises(MetricError, match="expected a mapping with the keys one, two"):
        fill(returning(1.0, columns=(Column("one", ""), Column("two", ""))), subject)


@pytest.mark.parametrize("need", ["oracle", "original", "base", "holdout", "wrong answers", "identities"])
def test_where_a_need_is_missing_nothing_is_called(subject: Subject, need: str) -> None:
    def compute(self: Metric, subject: Subject) -> float:
        raise AssertionError("called")

    assert fill(returning(1.0, needs=(need,), compute=compute), subject).figures == {"given_figure": None}
