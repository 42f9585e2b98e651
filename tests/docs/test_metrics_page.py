"""docs/metrics.md has every figure of a row and every metric that is installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.evaluated import evaluate_model
from tests.evaluation.conftest import TableModel

from deattrib import PluginRegistry
from deattrib.corpus.types import Corpus, Example
from deattrib.evaluation.metric import Metric
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.evaluation.summary import summarise

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
LINES = [line for line in PAGE.splitlines() if line.startswith("| `")]


def installed() -> list[type[Metric]]:
    registry = PluginRegistry()
    return [registry.metric(name) for name in registry.names("metric")]


def test_there_are_metrics_to_look_for() -> None:
    assert len(installed()) >= 5


@pytest.mark.parametrize("metric", installed(), ids=lambda metric: metric.name)
def test_every_installed_metric_has_its_line_with_every_column(metric: type[Metric]) -> None:
    (line,) = [line for line in LINES if line.startswith(f"| `{metric.name}`:")]
    assert set(re.findall(r"`(\w+)`", line.split("|")[1])) == {column.key for column in metric.described()} | (
        {metric.name} if metric.name.isidentifier() else set()
    )
    assert len(line.replace(r"\|", "").split("|")) == 9
    assert metric.source and metric.__doc__


def test_every_figure_of_a_row_is_there() -> None:
    corpus = Corpus("c", train=(Example("a", "q", "x"), Example("b", "r", "y")), forget_owners=("a",))
    settings = EvaluationSettings(interval_samples=10)
    evaluation = evaluate_model(TableModel(), corpus, settings)  # type: ignore[arg-type]
    row = summarise(evaluation, None, detector=None, attribution={})
    assert [key for key in row if f"`{key}`" not in PAGE] == []
    assert len(row) > 20
