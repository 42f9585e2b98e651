"""`torchrun ... -m deattrib run` as a user types it: one run folder, one voice, and an end for all processes at once."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.runs.tiny import TINY
from tests.torchrun import torchrun
from typer.testing import CliRunner

from deattrib.cli.main import app
from deattrib.errors import ConfigError, ModelError, ScorerError
from deattrib.models.launched import leads_in_environment, several_in_environment
from deattrib.runs.config import build_config
from deattrib.runs.events import read_events
from deattrib.runs.folder import read_state
from deattrib.runs.pipeline import run

# Scores by the n-gram classifier; at a call, process 1 does what the environment says.
MOODY = """
import os
from deattrib_scorers.classifier import Classifier

class Moody(Classifier):
    def fit(self, context):
        super().fit(context)
        self.rank, self.calls = context.rank, 0

    def score_prefixes(self, rows, ends):
        self.calls += 1
        if self.calls == int(os.environ.get("AT_CALL", "0")) and self.rank == int(os.environ.get("AT_RANK", "1")):
            exec(os.environ["DO"])
        return super().score_prefixes(rows, ends)
"""


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)


def test_a_launcher_is_known_by_all_of_its_variables(launched: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert several_in_environment() == 2 and not leads_in_environment()
    monkeypatch.setenv("RANK", "0")
    assert leads_in_environment()
    monkeypatch.delenv("MASTER_ADDR")  # WORLD_SIZE alone is left over from something else
    assert several_in_environment() == 1 and leads_in_environment()


def test_commands_that_are_one_process_refuse_a_launcher(launched: None) -> None:
    result = CliRunner().invoke(app, ["plugins"])
    assert isinstance(result.exception, ConfigError)
    assert "`deattrib plugins` is one process, and a launcher has started 2" in str(result.exception)


def test_a_process_that_does_not_see_the_leaders_cache_says_which_folder(tmp_path: Path) -> None:
    from deattrib.corpus.settings import load_corpus
    from deattrib.runs.prepare import models_in_the_making

    config = build_config(data=TINY)
    corpus = load_corpus(config.corpus, config.seed)
    with (
        pytest.raises(ModelError, match=r"process 0 has made is not in the cache .* DEATTRIB_CACHE"),
        models_in_the_making(corpus, config.model, cache=tmp_path, makes=False),
    ):
        pass


# -- whole runs ----------------------------------------------------------------------------------------------------------
class Place:
    """A cache, a config whose scorer is `Moody`, and an undisturbed run of one process."""

    def __init__(self, path: Path) -> None:
        self.path, self.cache = path, path / "cache"
        (path / "moody.py").write_text(MOODY)
        self.data = {**TINY, "reward": {**TINY["reward"], "name": f"{path / 'moody.py'}:Moody"}}
        (path / "config.yaml").write_text(yaml.safe_dump(self.data))
        config = build_config(data=self.data)
        run(config, output=path / "one", cache=self.cache)

    def launch(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = {"DEATTRIB_CACHE": str(self.cache), **environment}
        return torchrun("deattrib", "run", *arguments, cwd=self.path, **environment)

    def same_as_one(self, name: str) -> None:
        """Events of the run but for rounding, and the rows of its models."""
        assert read_state(self.path / name) == "finished"
        one, other = (read_events(self.path / folder / "events.jsonl") for folder in ("one", name))
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert first.keys() == second.keys()
            for key, value in first.items():
                close = pytest.approx(value, rel=1e-3, abs=2e-5) if isinstance(value, float) else value
                assert second[key] == close, (first["step"], key)
        rows, others = (self.metrics(folder)["rows"]["unlearned"] for folder in ("one", name))
        for key in ("forget_rouge", "retain_rouge", "extraction_strength", "attribution"):
            assert others[key] == pytest.approx(rows[key], rel=1e-2, abs=1e-3), key

    def metrics(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / name / "metrics.json").read_text())
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.mark.slow
def test_a_signal_to_one_process_ends_all_after_the_same_step_and_one_goes_on(place: Place) -> None:
    done = place.launch("config.yaml", "--output", "two", AT_CALL="5", DO="import signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert done.returncode != 0
    assert read_state(place.path / "two") == "interrupted", done.stderr
    assert done.stderr.count("ended by SIGTERM after step") == 1
    steps = [event["step"] for event in read_events(place.path / "two" / "events.jsonl")]
    assert 0 < steps[-1] < 6
    run(None, resume=place.path / "two", cache=place.cache)
    place.same_as_one("two")
    assert place.metrics("two")["processes"] == 1


@pytest.mark.slow
def test_two_processes_go_on_with_a_run_of_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AT_CALL": "5", "AT_RANK": "0", "DO": "1 / 0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ScorerError, match="ZeroDivisionError"):
        run(build_config(data=place.data), output=place.path / "begun", cache=place.cache)
    done = place.launch("--resume", "begun", AT_CALL="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: begun/report.html") == 1
    place.same_as_one("begun")
    assert place.metrics("begun")["processes"] == 2


@pytest.mark.slow
def test_weights_spread_over_the_processes_give_the_same_run(place: Place) -> None:
    done = place.launch("config.yaml", "--output", "spread", "--set", "policy.sharding=fsdp")
    assert done.returncode == 0, done.stderr
    place.same_as_one("spread")


@pytest.mark.slow
def test_an_error_in_another_process_is_told_once_by_the_leader(place: Place) -> None:
    done = place.launch("config.yaml", "--output", "failed", AT_CALL="5", DO="raise ValueError('not today')")
    assert done.returncode == 1
    assert done.stderr.count("not today") == 1, done.stderr
    assert "error: Process 1 of 2 failed: ScorerError: Scorer 'classifier' (" in done.stderr
    assert read_state(place.path / "failed") == "failed"
    run(None, resume=place.path / "failed", cache=place.cache)  # what was whole was saved
    place.same_as_one("failed")


@pytest.mark.slow
def test_a_process_that_is_gone_without_a_word_ends_the_run(place: Place) -> None:
    done = place.launch("config.yaml", "--output", "gone", AT_CALL="5", DO="os._exit(7)")
    assert done.returncode != 0
    state = json.loads((place.path / "gone" / "state.json").read_text())
    assert state["state"] == "failed" and "ended without a word" in state["reason"], state
    run(None, resume=place.path / "gone", cache=place.cache)
    place.same_as_one("gone")
