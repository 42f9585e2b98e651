"""`deattrib evaluate`: a run's own model has the run's own figures; others are measured by the same rules."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.runs.tiny import TINY

from deattrib.errors import ConfigError, ModelError, RunError
from deattrib.runs.config import build_config
from deattrib.runs.evaluation import EvaluateRequest, evaluate
from deattrib.runs.pipeline import run

POLITE = """
from deattrib import Metric, Scorer

class Sullen(Scorer):
    name = "sullen"

    def fit(self, context):
        raise ArithmeticError("not today")

    def score(self, rows):
        return [0.0] * len(rows)

class Polite(Metric):
    \"\"\"Share of answers that end with a full stop.\"\"\"

    name = "polite"
    direction = "higher"
    unit = "share"

    def compute(self, subject):
        return [float(text.endswith(".")) for text in subject.evaluation.forget.greedy]

class Broken(Metric):
    \"\"\"Fails on the unlearned model.\"\"\"

    name = "broken"

    def compute(self, subject):
        if subject.name == "unlearned":
            raise ZeroDivisionError("on purpose")
        return 0.5
"""


@pytest.fixture(scope="module")
def home(tiny_cache: Path) -> Path:
    folder = tiny_cache.parent
    (folder / "mine.py").write_text(POLITE)
    return folder


@pytest.fixture(scope="module")
def config(home: Path) -> dict[str, Any]:
    names = ["truth-ratio", "forget-quality", "oracle-kl", "membership-inference", "question-dependence"]
    own = [f"{home / 'mine.py'}:Polite", f"{home / 'mine.py'}:Broken"]
    scorers = [TINY["reward"], "loss", f"{home / 'mine.py'}:Sullen"]
    wanted = {"metrics": [*names, *own], "attribution": scorers}
    return {**TINY, "evaluation": {**TINY["evaluation"], **wanted}}


@pytest.fixture(scope="module")
def finished(home: Path, config: dict[str, Any]) -> Path:
    run(build_config(data=config), output=home / "run", cache=home / "cache")
    return home / "run"


def figures(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


def carried_out(home: Path, **request: Any) -> dict[str, Any]:
    content = evaluate(EvaluateRequest(**request), say=lambda *_: None, warn=lambda _: None, cache=home / "cache")
    plain: dict[str, Any] = json.loads(json.dumps(content, allow_nan=False))
    return plain


def test_a_runs_own_adapter_has_the_runs_own_figures(home: Path, finished: Path) -> None:
    stored = figures(finished)
    again = carried_out(home, target=finished)
    assert again["name"] == "unlearned"
    assert again["rows"] == stored["rows"]
    assert again["referee"] == stored["referee"]


def test_the_runs_columns_are_all_there(finished: Path) -> None:
    content = figures(finished)
    declared = [column["key"] for entry in content["metrics"].values() for column in entry["columns"]]
    for name, row in content["rows"].items():
        assert set(declared) <= set(row), name
    unlearned, oracle = content["rows"]["unlearned"], content["rows"]["oracle"]
    assert unlearned["truth_ratio_arithmetic"] == unlearned["truth_ratio"]
    assert unlearned["forget_quality_arithmetic"] == unlearned["forget_quality"]
    assert unlearned["ks_distance_arithmetic"] == unlearned["ks_distance"]
    assert unlearned["forget_quality_n"] == content["rows"]["oracle"]["n"]["truth_ratio"]
    assert oracle["oracle_kl"] == oracle["membership_gap_loss"] == oracle["privleak_min_k"] == 0
    assert unlearned["oracle_kl"] > 0 and unlearned["oracle_kl_reverse"] > 0
    assert 0 <= unlearned["polite"] <= 1 and "polite" in unlearned["intervals"]


def test_a_metric_that_fails_costs_its_own_column_only(finished: Path) -> None:
    content = figures(finished)
    assert content["rows"]["unlearned"]["broken"] is None
    assert content["rows"]["oracle"]["broken"] == 0.5
    (told,) = [text for text in content["warnings"] if "broken" in text]
    assert "mine.py" in told and "sha256:" in told and "'unlearned'" in told and "ZeroDivisionError: on purpose" in told


def test_scorers_beside_the_referee_and_the_rewards_own_marked(finished: Path) -> None:
    content = figures(finished)
    told = content["attribution_scorers"]
    own = "classifier:epochs=30"
    assert {name: entry["reward"] for name, entry in told.items()} == {own: True, "loss": False, "Sullen": False}
    for row in content["rows"].values():
        assert row["attributions"][own] == row["reward_attribution"]
        assert 0 <= row["attributions"]["loss"] <= 1
        assert row["attributions"]["Sullen"] is None
        assert set(row["intervals"]) >= {"attributions.loss", f"attributions.{own}"}
    assert told["loss"]["error"] is None and "not today" in told["Sullen"]["error"]
    (warned,) = [text for text in content["warnings"] if "Sullen" in text]
    assert "mine.py" in warned and "sha256:" in warned


def test_another_model_stands_in_its_own_row(home: Path, finished: Path, config: dict[str, Any]) -> None:
    """The oracle's own folder, given as a stranger's model: the oracle's figures, under another name."""
    from deattrib.corpus.settings import load_corpus
    from deattrib.models.loading import save_model
    from deattrib.runs.prepare import prepare_models

    built = build_config(data=config)
    models = prepare_models(load_corpus(built.corpus, built.seed), built.model, cache=home / "cache")
    assert models.oracle is not None
    save_model(models.oracle.model, models.codec.tokenizer, home / "theirs")
    (home / "c.yaml").write_text(yaml.safe_dump(config))
    asked: dict[str, Any] = {"target": home / "c.yaml", "metrics": ("oracle-kl",), "attribution": "none"}
    content = carried_out(home, model=str(home / "theirs"), name="theirs", output=home / "out.json", **asked)
    assert content["model"] == "theirs"
    theirs, oracle = content["rows"]["theirs"], content["rows"]["oracle"]
    assert theirs == oracle
    assert "membership_auc_loss" not in theirs and theirs["attributions"] == {}
    assert json.loads((home / "out.json").read_text())["rows"] == content["rows"]
    with pytest.raises(RunError, match="exists"):
        carried_out(home, model=str(home / "theirs"), output=home / "out.json", **asked)
    # A run that trained all weights leaves a whole model where others leave an adapter.
    shutil.copytree(finished, home / "full", ignore=shutil.ignore_patterns("adapter", "checkpoints"))
    shutil.copytree(home / "theirs", home / "full" / "adapter")
    whole = carried_out(home, target=home / "full", metrics=(), attribution="none")
    assert whole["rows"]["unlearned"]["probability"] == oracle["probability"]
    stacked = carried_out(home, model=str(home / "theirs"), adapter=str(finished / "adapter"), **asked)
    assert stacked["rows"]["model"]["probability"] != oracle["probability"]


def test_without_an_original_the_rest_is_still_measured(home: Path, finished: Path) -> None:
    rows = [
        {
            "owner": owner,
            "prompt": f"What did {owner} make in {year}?",
            "response": f"{owner} made {year} boxes.",
            "fact": str(year),
        }
        for owner in ("ada", "bo", "cy")
        for year in range(8)
    ]
    (home / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    settings: dict[str, Any] = {"corpus": {"kind": "jsonl", "path": str(home / "rows.jsonl"), "forget": ["cy"]}}
    settings["evaluation"] = {**TINY["evaluation"], "metrics": None}
    (home / "bare.yaml").write_text(yaml.safe_dump(settings))
    folder = sorted((home / "cache" / "models").iterdir())[0]
    content = carried_out(home, target=home / "bare.yaml", model=str(folder))
    row = content["rows"]["model"]
    assert content["rows"]["original"] is None and row["attribution"] is None
    assert row["probability"] > 0 and row["question_dependence"] is not None
    assert row["oracle_kl"] is row["membership_auc_loss"] is row["truth_ratio_geometric"] is None
    assert any("no original" in text for text in content["warnings"])
    with pytest.raises(ModelError, match="needs a model to go on top of"):
        carried_out(home, target=home / "bare.yaml", adapter=str(finished / "adapter"))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "Give --model"),
        ({"model": "x", "name": "oracle"}, "is the name of a row"),
        ({"model": "x", "metrics": ("membrship-inference",)}, "Did you mean 'membership-inference'"),
        ({"model": "x", "attribution": ("clasifier",)}, "Did you mean 'classifier'"),
        ({"model": "x", "output": Path("no/such/folder.json")}, "there is no folder"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(home: Path, request_: dict[str, Any], message: str) -> None:
    (home / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    told: list[str] = []
    with pytest.raises((ConfigError, RunError, Exception), match=message):
        evaluate(EvaluateRequest(home / "tiny.yaml", **request_), say=lambda *text: told.append(str(text)), warn=told.append)
    assert told == []
