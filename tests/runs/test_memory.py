"""What plugins hear of `unlearn()`: a run in memory, also one that fails, and one whose observer does."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from deattrib import Corpus, PluginRegistry, Scorer, hookimpl, unlearn
from deattrib.errors import ScorerError

SETTINGS = {"ppo": {"steps": 2, "batch_size": 4, "max_new_tokens": 6, "warmup": 0}}


class Watcher:
    """Keeps what it is told; raises in the hook that it is given."""

    def __init__(self, fails: str = "") -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.fails = fails

    def note(self, hook: str, *what: Any) -> None:
        self.heard.append((hook, *what))
        if hook == self.fails:
            raise RuntimeError("no pen")

    @hookimpl
    def run_started(self, folder: Path | None, config: Mapping[str, Any]) -> None:
        self.note("run_started", folder, config["reward"], config["ppo"]["steps"], config["seed"])

    @hookimpl
    def step_finished(self, step: int, figures: dict[str, float]) -> None:
        self.note("step_finished", step, dict(figures))
        figures.clear()  # an observer does not change what is handed back

    @hookimpl
    def run_finished(self, folder: Path | None, metrics: Mapping[str, Any] | None) -> None:
        self.note("run_finished", folder, metrics)


class Broken(Scorer):
    """Cannot be fitted."""

    name = "broken"

    def fit(self, context: Any) -> None:
        raise ValueError("no ink")

    def score(self, rows: Any) -> Any:
        return [0.0] * len(rows)


def watched(watcher: Watcher) -> PluginRegistry:
    registry = PluginRegistry()
    registry.register(watcher, name="watcher")
    return registry


def test_plugins_hear_of_a_run_in_memory(tiny_llama: nn.Module, tiny_tokenizer: Any, tiny_corpus: Corpus) -> None:
    watcher = Watcher()
    result = unlearn(
        tiny_corpus, tiny_llama, tiny_tokenizer, reward="none", base=tiny_llama, seed=5, settings=SETTINGS,
        registry=watched(watcher),
    )  # fmt: skip
    steps = [("step_finished", number, figures) for number, figures in enumerate(result.history, 1)]
    assert watcher.heard == [("run_started", None, "none", 2, 5), *steps, ("run_finished", None, {})]
    assert len(steps) == 2 and all(result.history)


def test_a_run_in_memory_that_fails_has_an_end_too(tiny_llama: nn.Module, tiny_tokenizer: Any, tiny_corpus: Corpus) -> None:
    watcher = Watcher()
    with pytest.raises(ScorerError, match="no ink"):
        unlearn(
            tiny_corpus,
            tiny_llama,
            tiny_tokenizer,
            reward=Broken,
            base=tiny_llama,
            settings=SETTINGS,
            registry=watched(watcher),
        )
    assert watcher.heard == [("run_started", None, "broken", 2, 0), ("run_finished", None, None)]


@pytest.mark.parametrize("hook", ["run_started", "step_finished", "run_finished"])
def test_a_plugin_that_fails_costs_a_warning(
    hook: str, tiny_llama: nn.Module, tiny_tokenizer: Any, tiny_corpus: Corpus
) -> None:
    watcher = Watcher(fails=hook)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = unlearn(
            tiny_corpus,
            tiny_llama,
            tiny_tokenizer,
            reward="none",
            base=tiny_llama,
            settings=SETTINGS,
            registry=watched(watcher),
        )
    told = [one for one in caught if "'watcher'" in str(one.message)]
    assert len(told) == (2 if hook == "step_finished" else 1) and len(result.history) == 2
    assert {one.filename for one in told} == {__file__}
    assert hook in str(told[0].message) and "no pen" in str(told[0].message)
    assert [name for name, *_ in watcher.heard] == ["run_started", "step_finished", "step_finished", "run_finished"]
