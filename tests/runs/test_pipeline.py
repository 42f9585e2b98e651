"""What a user does: a run from a config, killed and resumed, started twice, watched."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.command_line import deattrib
from tests.runs.tiny import TINY

from deattrib.errors import CalibrationError, PluginError, RunError
from deattrib.runs.config import build_config
from deattrib.runs.events import read_events
from deattrib.runs.folder import read_state
from deattrib.runs.listener import Listener
from deattrib.runs.pipeline import run

ROWS = (
    "forget_rouge retain_rouge retain_paraphrase_rouge world_rouge tow fact_recall extraction_strength truth_ratio "
    "forget_quality ks_distance attribution reward_attribution gibberish_rate empty_rate distinct_answer_rate "
    "mean_length oracle_perplexity model_utility"
).split()

# Scores by the n-gram classifier, and sends its own process a signal where the environment says so.
KILLER = """
import os, signal
from deattrib_scorers.classifier import Classifier

class Killer(Classifier):
    calls = 0

    def score_prefixes(self, rows, ends):
        Killer.calls += 1
        if Killer.calls == int(os.environ.get("KILL_AT_CALL", "0")):
            os.kill(os.getpid(), int(os.environ["KILL_WITH"]))
        return super().score_prefixes(rows, ends)
"""


@pytest.fixture(scope="module")
def cache(tiny_cache: Path) -> Path:
    return tiny_cache


@pytest.fixture(scope="module")
def finished(tiny_run: Path) -> Path:
    return tiny_run


def test_a_run_leaves_everything_that_is_promised(finished: Path) -> None:
    assert read_state(finished) == "finished"
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["schema"] == 1
    assert metrics["reward"] == "classifier"
    assert set(metrics["seconds"]) == {"prepare", "fit", "unlearn", "evaluate"}
    assert set(metrics["rows"]) == {"original", "oracle", "oracle_second", "unlearned"}
    for name, row in metrics["rows"].items():
        assert not set(ROWS) - set(row), name
    assert metrics["rows"]["oracle"]["tow"] == 1
    for name in ("config.yaml", "manifest.json", "events.jsonl", "answers.json", "report.html", "adapter/adapter_config.json"):
        assert (finished / name).is_file(), name
    assert "not certified removal" in (finished / "adapter/README.md").read_text()


def test_the_adapter_is_what_was_evaluated(finished: Path, cache: Path) -> None:
    """Loaded back by peft on top of the original, it gives the very answers in answers.json."""
    from peft import PeftModel

    from deattrib.corpus.settings import load_corpus
    from deattrib.models.language_model import LanguageModel
    from deattrib.runs.prepare import prepare_models

    config = build_config(data=TINY)
    corpus = load_corpus(config.corpus, config.seed)
    models = prepare_models(corpus, config.model, seed=config.seed, cache=cache, say=lambda _: None)
    merged: Any = PeftModel.from_pretrained(models.original.clone(), finished / "adapter").merge_and_unload()  # type: ignore[operator]
    rows = [row for row in json.loads((finished / "answers.json").read_text())["rows"] if row["forget"]][:8]
    texts = LanguageModel(merged, models.codec).generate([row["prompt"] for row in rows], max_new_tokens=12)
    assert texts == [row["unlearned"]["text"] for row in rows]


def test_the_same_seed_gives_the_same_numbers_on_one_processor_and_on_two(finished: Path, tmp_path: Path, cache: Path) -> None:
    """With two, lessons and the anchored term have a thread of their own, and parts of the evaluation another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        run(build_config(data=TINY), output=tmp_path / "again", cache=cache)
        assert torch.get_num_threads() == 3 - min(threads, 2)
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / "again" / "events.jsonl").read_bytes() == (finished / "events.jsonl").read_bytes()
    once, again = (json.loads((folder / "metrics.json").read_text()) for folder in (finished, tmp_path / "again"))
    assert once["rows"] == again["rows"]


def test_a_finished_run_is_never_overwritten(finished: Path, cache: Path) -> None:
    before = (finished / "metrics.json").read_bytes()
    with pytest.raises(RunError, match="finished"):
        run(build_config(data=TINY), output=finished, cache=cache)
    with pytest.raises(RunError, match="nothing to resume"):
        run(None, resume=finished, cache=cache)
    assert (finished / "metrics.json").read_bytes() == before


def test_a_misspelt_scorer_leaves_no_run_behind(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(PluginError, match="Did you mean 'classifier'"):
        run(build_config(data=TINY, reward="clasifier"), output=tmp_path / "run", cache=cache)
    assert not (tmp_path / "run").exists()


def test_a_referee_that_cannot_tell_is_not_taken_for_the_reward(tmp_path: Path, cache: Path) -> None:
    config = build_config(data=TINY, overrides=["referee.calibration.noise_floor=1e6"])
    with pytest.raises(CalibrationError, match=r"The referee \(choose another with referee.scorer\): Scorer .* cannot tell"):
        run(config, output=tmp_path / "run", cache=cache)


FAILS_LATE = """
import torch
from deattrib_scorers.classifier import Classifier

class FailsLate(Classifier):
    def score_prefixes(self, rows, ends):
        scores = super().score_prefixes(rows, ends)
        return torch.where(torch.arange(len(rows))[:, None] == 1, torch.nan, scores) if self.context.policy else scores

    def fit(self, context):
        self.context = context
        super().fit(context)

    def score(self, rows):
        if self.context.policy:
            raise ValueError("no memory for whole answers")
        return super().score(rows)

    def score_tokens(self, rows):
        raise ValueError("no memory for tokens")

    def close(self):
        raise ValueError("cannot let go")
"""


def test_a_reward_that_fails_after_the_loop_costs_no_result(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "late.py").write_text(FAILS_LATE)
    heard: list[str] = []

    class Ear(Listener):
        def warn(self, message: str) -> None:
            heard.append(message)

    config = build_config(
        data={**TINY, "reward": {"name": f"{tmp_path / 'late.py'}:FailsLate", "epochs": 30}},
        overrides=["guard.on_nonfinite=mask", "guard.most_masked=0.5"],
    )
    with pytest.warns(UserWarning, match=r"in close\(\): it raised ValueError: cannot let go"):
        folder = run(config, output=tmp_path / "run", cache=cache, listener=Ear()).folder
    assert read_state(folder) == "finished" and (folder / "report.html").is_file()
    metrics = json.loads((folder / "metrics.json").read_text())
    row = metrics["rows"]["unlearned"]
    assert row["reward_attribution"] is None and 0 <= row["attribution"] <= 1 and row["forget_rouge"] is not None
    assert any("What the reward says of the unlearned model" in message for message in metrics["warnings"])
    assert any(re.search(r"\d+ scores of the reward .* were not finite", message) for message in metrics["warnings"])
    assert any("not shaded by token" in message and "no memory for tokens" in message for message in heard)


def test_a_listener_hears_stages_and_steps(tmp_path: Path, cache: Path) -> None:
    heard: list[str] = []

    class Ear(Listener):
        def stage(self, name: str, detail: str = "") -> None:
            heard.append(name)

        def step(self, number: int, total: int, figures: dict[str, float]) -> None:
            heard.append(f"{number}/{total}")
            assert figures["ratio_error"] == 0.0  # one update per batch: the policy has not moved yet

    run(build_config(data=TINY), output=tmp_path / "run", cache=cache, listener=Ear())
    order = ["corpus", "models", "scorer", "unlearn", "1/6", "6/6", "evaluate"]
    assert [name for name in dict.fromkeys(heard) if name in order] == order


def cli(*arguments: str, cache: Path, kill_at: int = 0, kill_with: int = signal.SIGKILL) -> int:
    env = {"DEATTRIB_CACHE": str(cache), "KILL_AT_CALL": str(kill_at), "KILL_WITH": str(int(kill_with))}
    return deattrib("run", *arguments, "--threads", "1", **env).returncode


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of an undisturbed run by the command, with its config.yaml beside it."""
    folder = tmp_path_factory.mktemp("killed")
    scorer = folder / "killer.py"
    scorer.write_text(KILLER)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**TINY, "reward": {"name": f"{scorer}:Killer", "epochs": 30}}))
    assert cli(str(config), "--output", str(folder / "whole"), cache=cache) == 0
    return folder / "whole"


# In the middle of the loop, in step 3: four calls score calibration witnesses before it. A killed run has the checkpoint of
# step 2, one that was asked to end has one of the step in which it was asked too. Outside of the loop no step is finished.
@pytest.mark.parametrize(
    ("number", "call", "code", "state", "saved"),
    [
        (signal.SIGKILL, 7, -signal.SIGKILL, "running", [2]),
        (signal.SIGTERM, 7, 143, "interrupted", [2, 3]),
        (signal.SIGINT, 7, 130, "interrupted", [2, 3]),
        (signal.SIGTERM, 2, 143, "interrupted", []),
    ],
    ids=["killed", "terminated", "Ctrl-C", "terminated while the scale is measured"],
)
def test_cut_off_and_resumed_is_undisturbed_to_the_last_bit(
    tmp_path: Path, cache: Path, whole: Path, number: int, call: int, code: int, state: str, saved: list[int]
) -> None:
    cut = tmp_path / "cut"
    config = whole.parent / "config.yaml"
    assert cli(str(config), "--output", str(cut), cache=cache, kill_at=call, kill_with=number) == code
    assert read_state(cut) == state
    assert [int(path.name.split("-")[1]) for path in sorted((cut / "checkpoints").iterdir())] == saved
    assert cli("--resume", str(cut), cache=cache) == 0
    assert (whole / "events.jsonl").read_bytes() == (cut / "events.jsonl").read_bytes()
    assert (whole / "adapter/adapter_model.safetensors").read_bytes() == (
        cut / "adapter/adapter_model.safetensors"
    ).read_bytes()
    assert json.loads((whole / "metrics.json").read_text())["rows"] == json.loads((cut / "metrics.json").read_text())["rows"]
    assert [event["step"] for event in read_events(cut / "events.jsonl") if event["kind"] == "step"] == [1, 2, 3, 4, 5, 6]
    # Time is that of all steps, not of the last stretch.
    took = {one["step"]: one["seconds"] for one in read_events(cut / "timings.jsonl") if one["kind"] == "step"}
    assert set(took) == set(range(1, 7))
    assert json.loads((cut / "metrics.json").read_text())["seconds"]["unlearn"] >= sum(took.values()) - 0.01
