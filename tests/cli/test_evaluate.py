"""What `deattrib evaluate` understands and prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deattrib.cli.evaluate import plain, table
from deattrib.cli.main import app
from deattrib.runs import evaluation

CONTENT: dict[str, Any] = {
    "schema": 1,
    "name": "theirs",
    "rows": {
        "original": {"fact_recall": 1.0, "oracle_kl": 3.25, "attributions": {"loss": 0.9}},
        "oracle": {"fact_recall": 0.0, "oracle_kl": 0.0, "attributions": {"loss": None}},
        "oracle_second": None,
        "theirs": {"fact_recall": 0.25, "oracle_kl": 4e-5, "attributions": {"loss": 0.1}},
    },
    "metrics": {"oracle-kl": {"columns": [{"key": "oracle_kl", "direction": "lower"}]}},
    "attribution_scorers": {"loss": {"reward": True}},
    "warnings": [],
}


def test_the_table_has_a_column_per_model_and_a_line_per_figure() -> None:
    head = next(line for line in table(CONTENT).splitlines() if "original" in line).split()
    assert head == ["original", "oracle", "theirs"]
    (recall,) = [line.split() for line in table(CONTENT).splitlines() if line.startswith("fact recall")]
    assert recall == ["fact", "recall", "→", "1.000", "0.000", "0.250"]
    (kl,) = [line.split() for line in table(CONTENT).splitlines() if line.startswith("oracle_kl")]
    assert kl == ["oracle_kl", "↓", "3.250", "0.000", "4.0e-05"]
    (by,) = [line.split() for line in table(CONTENT).splitlines() if line.startswith("by loss (reward)")]
    assert by[-3:] == ["0.900", "–", "0.100"]


def test_what_json_has_no_word_for_is_null() -> None:
    assert plain({"a": [float("nan"), float("-inf"), 1.5], "b": (1, "x", None)}) == {
        "a": [None, None, 1.5],
        "b": [1, "x", None],
    }


def test_options_become_a_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[evaluation.EvaluateRequest] = []

    def remember(request: evaluation.EvaluateRequest, **_: Any) -> dict[str, Any]:
        asked.append(request)
        return CONTENT

    monkeypatch.setattr(evaluation, "evaluate", remember)
    words = ["evaluate", str(tmp_path), "--model", "m", "--adapter", "a", "--metrics", "oracle-kl, x.py:Y:least=2", "--json"]
    result = CliRunner().invoke(app, [*words, "--attribution", "loss,min-k:reference=base:share=0.1"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == CONTENT
    assert (asked[0].target, asked[0].model, asked[0].adapter) == (tmp_path, "m", "a")
    assert asked[0].metrics == ("oracle-kl", {"name": "x.py:Y", "least": 2})
    assert asked[0].attribution == ("loss", {"name": "min-k", "reference": "base", "share": 0.1})
    plainly = CliRunner().invoke(app, ["evaluate", str(tmp_path), "--metrics", "none", "--attribution", "all"])
    assert plainly.exit_code == 0 and "theirs" in plainly.output
    assert asked[1].metrics == () and asked[1].attribution == "all"
