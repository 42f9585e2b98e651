"""An audit from end to end on the smallest run: what its figures must be by construction, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.runs.tiny import TINY

from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.scorer import Rows
from deattrib.audit.probes import KINDS
from deattrib.audit.settings import AuditSettings
from deattrib.audit.truth import mean_log_probs
from deattrib.cli.audit import table
from deattrib.corpus.settings import load_corpus
from deattrib.errors import ConfigError, PluginError, RunError
from deattrib.runs.audit import AuditResult, audit, make_plan
from deattrib.runs.checkpoint import save_checkpoint
from deattrib.runs.config import RunConfig, build_config
from deattrib.runs.prepare import prepare_models
from deattrib.runs.session import Session

DATA = {
    **TINY,
    "model": {**TINY["model"], "training": {"steps": 10, "batch_size": 8, "learning_rate": 0.008}},
    "ppo": {**TINY["ppo"], "steps": 2},
}
SETTINGS = AuditSettings(owners=4, seeds=2, rows=3, subsets=4, subset_seeds=1, bootstrap=50)
SCORERS: dict[str, Any] = {
    "overlap": "overlap",
    "loss": "loss",
    "random": "random",
    "all": {"name": "exact", "owners": "all", "seeds": 2},
    "few": {"name": "exact", "owners": "forget", "seeds": 1},
}


@pytest.fixture(scope="module")
def cache(tiny_cache: Path) -> Path:
    return tiny_cache


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return build_config(data=DATA)


def unlearn_two_steps(config: RunConfig, folder: Path, cache: Path) -> None:
    """What a run leaves in its folder after each of two steps; the reward needs no calibration."""
    corpus = load_corpus(config.corpus, config.seed)
    models = prepare_models(corpus, config.model, seed=config.seed, cache=cache, say=lambda _: None)
    session = Session(config, corpus, models.original, models.base, registry=PluginRegistry())
    unlearner = session.make_unlearner(session.fit_reward("constant"))
    for _ in range(2):
        step = next(unlearner)
        save_checkpoint(folder / "checkpoints", step.number, {"unlearner": unlearner.state_dict()}, keep=5)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, cache: Path, config: RunConfig) -> AuditResult:
    folder = tmp_path_factory.mktemp("audit")
    unlearn_two_steps(config, folder / "run", cache)
    return audit(config, SCORERS, SETTINGS, output=folder / "audit", run=folder / "run", cache=cache)


def entry(done: AuditResult, name: str) -> dict[str, Any]:
    return next(item for item in done.content["scorers"] if item["name"] == name)


def test_it_writes_plain_json_and_a_page(done: AuditResult) -> None:
    stored = json.loads((done.folder / "audit.json").read_text())
    assert stored["schema"] == 1
    assert {row["kind"] for row in stored["rows"]} == set(KINDS)
    assert [len(item["scores"]) for item in stored["scorers"] if not item["error"]] == [len(stored["rows"])] * 5
    assert "NaN" not in (done.folder / "audit.json").read_text()
    assert (done.folder / "audit.html").read_text().startswith("<!doctype html>")
    assert "overlap" in table(done.content)


def test_retraining_agrees_with_itself_and_with_the_scorer_that_retrains(done: AuditResult) -> None:
    """The audit and the scorer `exact` compute the same values in their own ways."""
    truth, scorer = entry(done, "retraining"), entry(done, "all")
    assert truth["rows"]["spearman"]["value"] == pytest.approx(1) and truth["owners"]["kendall"]["value"] == pytest.approx(1)
    assert truth["top1_exact"] == 1
    assert scorer["scores"] == pytest.approx(truth["scores"], abs=1e-4)
    assert scorer["lds"]["value"] == pytest.approx(truth["lds"]["value"], abs=1e-6)
    assert scorer["cost"]["forwards"] > 1


def test_lds_of_retraining_by_hand(done: AuditResult, config: RunConfig, cache: Path) -> None:
    """From the models themselves, with scipy, for the original's and the true answers."""
    corpus = load_corpus(config.corpus, config.seed)
    models = prepare_models(corpus, config.model, seed=config.seed, cache=cache, say=lambda _: None)
    retrainer = models.retrainer
    assert retrainer is not None
    some = [row for row in done.content["rows"] if row["kind"] == "true"]
    rows = Rows.from_texts(
        models.codec, [row["prompt"] for row in some], [row["response"] for row in some], [row["owner"] for row in some]
    )
    plan = make_plan(corpus, SETTINGS, config.seed)
    single = {
        owner: np.mean(
            [
                mean_log_probs(retrainer.model(seed=seed), rows)
                - mean_log_probs(retrainer.model(without=[owner], seed=seed), rows)
                for seed in (0, 1)
            ],
            axis=0,
        )
        for owner in corpus.owners
    }
    assert [row["exact"] for row in some] == pytest.approx(
        [single[row["owner"]][number] for number, row in enumerate(some)], abs=1e-5
    )
    halves = [{o for o, inside in zip(corpus.owners, mask, strict=True) if inside} for mask in plan.trained_on]
    assert all(len(half) == 2 for half in halves)
    outcomes = [mean_log_probs(retrainer.model(without=set(corpus.owners) - half, seed=0), rows) for half in halves]
    values = []
    for number in range(len(some)):
        sums = [sum(single[owner][number] for owner in half) for half in halves]
        values.append(stats.spearmanr(sums, [outcome[number] for outcome in outcomes]).statistic)
    kinds = np.array([row["kind"] for row in done.content["rows"]])
    assert (kinds == "true").sum() == len(values)
    from deattrib.audit.statistics import lds

    exact = np.stack([single[owner] for owner in corpus.owners], 1)
    assert lds(exact, plan.trained_on, np.stack(outcomes, 1)).tolist() == pytest.approx(values)


def test_an_owner_free_signal_knows_no_owners(done: AuditResult) -> None:
    loss = entry(done, "loss")
    assert loss["auroc_own_other"] == 0.5
    assert loss["top1_own"] == 0.25  # four owners, all equal
    assert math.isnan(loss["owners"]["spearman"]["value"])
    assert loss["lds"] is not None and math.isnan(loss["lds"]["value"])  # halves of equal size sum to the same


def test_random_scores_agree_with_nothing(done: AuditResult) -> None:
    measure = entry(done, "random")["rows"]["spearman"]
    assert measure["low"] < 0 < measure["high"]
    assert entry(done, "random")["calibration"] is None
    assert 0 < entry(done, "random")["means"]["gibberish"]["attribution"] < 1


def test_a_scorer_that_cannot_answer_is_named_and_the_others_go_on(done: AuditResult) -> None:
    assert "no model without owner" in entry(done, "few")["error"]
    assert "no model without owner" in (done.folder / "audit.html").read_text()


def test_the_oracle_is_asked_about_forget_owners_only(done: AuditResult) -> None:
    rows = done.content["rows"]
    forget, audited = set(done.content["forget_owners"]), set(done.content["owners"])
    owners = {kind: {row["owner"] for row in rows if row["kind"] == kind} for kind in KINDS}
    assert owners["oracle"] == owners["policy"] == forget < audited
    assert all(owners[kind] == audited for kind in ("original", "true", "paraphrase", "gibberish"))
    overlap = entry(done, "overlap")
    scores = {
        kind: [
            score for score, row in zip(overlap["scores"], rows, strict=True) if row["kind"] == kind and row["owner"] in forget
        ]
        for kind in ("original", "oracle")
    }
    above = [(a > b) + (a == b) / 2 for a in scores["original"] for b in scores["oracle"]]
    assert overlap["auroc_original_oracle"] == pytest.approx(sum(above) / len(above))


def test_drift_has_the_original_and_every_checkpoint(done: AuditResult) -> None:
    points = entry(done, "overlap")["drift"]
    assert [point["step"] for point in points] == [0, 1, 2]
    assert [point["rows"] for point in points] == [3, 3, 3]  # one forget owner, three rows


def test_the_calibration_curve_counts_every_sampled_answer(done: AuditResult) -> None:
    sampled = sum(row["kind"] in ("original", "policy", "oracle") for row in done.content["rows"])
    curve = entry(done, "retraining")["calibration_curve"]
    assert sum(point["rows"] for point in curve) == sampled
    assert all(point["attribution"] == pytest.approx(point["exact"]) for point in curve)


def test_it_is_refused_before_anything_is_trained(done: AuditResult, config: RunConfig, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(RunError, match="already"):
        audit(config, SCORERS, SETTINGS, output=done.folder, cache=cache)
    with pytest.raises(PluginError, match="Did you mean 'overlap'"):
        audit(config, {"overlp": "overlp"}, SETTINGS, output=tmp_path, cache=cache)
    long = SETTINGS.model_copy(update={"seeds": 9, "max_minutes": 0.0})
    with pytest.raises(RunError, match=r"would train 35 models .*9\)"):
        audit(config, {"loss": "loss"}, long, output=tmp_path, cache=cache)
    with pytest.raises(ConfigError, match="the corpus has 4"):
        audit(config, {"loss": "loss"}, SETTINGS.model_copy(update={"owners": 5}), output=tmp_path, cache=cache)
    with pytest.raises(RunError, match="no checkpoints"):
        audit(config, {"loss": "loss"}, SETTINGS, output=tmp_path, run=tmp_path, cache=cache)
    assert not (tmp_path / "audit.json").exists()
