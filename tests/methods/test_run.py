"""A baseline through the pipeline: checkpoints, the killed run that goes on, and what the folder says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.runs.tiny import TINY

from deattrib.errors import PluginError
from deattrib.runs.config import build_config
from deattrib.runs.events import read_events
from deattrib.runs.listener import Listener
from deattrib.runs.pipeline import run


class Interrupt(Listener):
    """Stops the run as Ctrl-C does."""

    def step(self, number: int, total: int, figures: dict[str, float]) -> None:
        if number == 3:
            raise KeyboardInterrupt


def test_a_baseline_runs_is_resumed_to_the_same_numbers_and_says_what_it_was(tmp_path: Path, tiny_cache: Path) -> None:
    config = build_config(data={**TINY, "method": {"name": "npo", "beta": 0.5, "steps": 4}})
    whole = run(config, output=tmp_path / "whole", cache=tiny_cache)
    with pytest.raises(KeyboardInterrupt):
        run(config, output=tmp_path / "cut", cache=tiny_cache, listener=Interrupt())
    resumed = run(None, resume=tmp_path / "cut", cache=tiny_cache)
    assert (whole.metrics["method"], whole.metrics["steps"]) == ("npo", 4)
    assert whole.metrics["method_settings"]["beta"] == 0.5
    assert whole.metrics["references"] == {"reward": "none", "anchor": "none"}
    assert resumed.metrics["rows"] == whole.metrics["rows"]

    def steps(folder: Path) -> list[dict[str, Any]]:
        return [event for event in read_events(folder / "events.jsonl") if event["kind"] == "step"]

    assert len(steps(whole.folder)) == 4
    assert steps(resumed.folder) == steps(whole.folder)
    assert json.loads((whole.folder / "metrics.json").read_text())["method"] == "npo"
    assert "Method: npo" in (whole.folder / "adapter/README.md").read_text()
    assert ">npo<" in (whole.folder / "report.html").read_text()


def test_the_folder_is_named_after_the_method_and_a_misspelt_one_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match="There is no method 'noo'"):
        run(build_config(data=TINY, method="noo"), cache=tmp_path)
    assert list(tmp_path.iterdir()) == []

    class Stop(Listener):
        def stage(self, name: str, detail: str = "") -> None:
            raise KeyboardInterrupt

    for method in ("ga", "dareu"):
        with pytest.raises(KeyboardInterrupt):
            run(build_config(data=TINY, method=method), cache=tmp_path, listener=Stop())
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["tiny-classifier-seed0", "tiny-ga-classifier-seed0"]
