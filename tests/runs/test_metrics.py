"""Choosing metrics, the wall around them, and what of them is kept."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.evaluated import evaluate_model
from torch import nn

from deattrib import Column, ConfigError, Metric, PluginError, PluginRegistry, Subject, hookimpl
from deattrib.corpus.types import Corpus
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.runs.measured import measure_cached
from deattrib.runs.metrics import BUILTIN, ReadyMetric, apply_metrics, check_free, choose_metrics

SETTINGS = EvaluationSettings(
    forget_rows=4, retain_rows=1, retain_phrasing_rows=1, world_rows=1, max_new_tokens=2, interval_samples=20
)


class Half(Metric):
    """Always one half."""

    name = "half"

    class Params(Metric.Params):
        of: float = 1.0

    def compute(self, subject: Subject) -> float:
        return float(self.params.of) / 2


class Counting(Metric):
    """How often it was asked, as it remembers."""

    name = "counting"
    asked = 0

    def measure(self, subject: Subject) -> Mapping[str, Any]:
        assert subject.base is subject.oracle is subject.original is None
        Counting.asked += 1
        return {"length": np.array([len(text) for text in subject.evaluation.forget.greedy], dtype=np.float64)}

    def compute(self, subject: Subject) -> Any:
        return subject.measured["length"] - (subject.oracle.measured["length"] if subject.oracle else 0)


class Fails(Metric):
    """Never works."""

    name = "fails"

    def measure(self, subject: Subject) -> Mapping[str, Any]:
        raise KeyError("nothing")

    def compute(self, subject: Subject) -> float:
        return 1.0


def registry_with(*classes: type[Any]) -> PluginRegistry:
    registry = PluginRegistry(entry_points=False)
    registry.register(SimpleNamespace(metrics=hookimpl(lambda: list(classes))), name="mine")
    return registry


def names(chosen: list[ReadyMetric]) -> list[str]:
    return [item.metric.name for item in chosen]


@pytest.fixture
def subjects(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> dict[str, Subject]:
    model = LanguageModel(tiny_llama, tiny_codec)
    one = Subject("original", model, evaluate_model(model, tiny_corpus, SETTINGS), tiny_corpus, SETTINGS)
    return {name: replace(one, name=name) for name in ("original", "oracle", "unlearned")}


def test_by_default_the_built_in_ones_and_nobody_elses() -> None:
    assert names(choose_metrics(None, registry_with(Half))) == list(BUILTIN)
    assert names(choose_metrics([], registry_with(Half))) == []
    assert names(choose_metrics(["half"], registry_with(Half))) == ["half"]


def test_the_built_in_ones_are_installed_as_a_plugin() -> None:
    registry = PluginRegistry()
    assert set(BUILTIN) <= set(registry.names("metric"))
    assert all(item.origin.entry_point == "metrics" for item in choose_metrics(None, registry))
    fewer = PluginRegistry(disable=["oracle-kl"])
    assert names(choose_metrics(None, fewer)) == [name for name in BUILTIN if name != "oracle-kl"]
    with pytest.raises(PluginError, match="is disabled"):
        choose_metrics(["oracle-kl"], fewer)
    assert not set(BUILTIN) & set(registry.names("scorer"))  # a name in `disable` means one of them


def test_a_metric_from_a_file_with_a_setting(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "from deattrib import Metric\n\nclass Third(Metric):\n    '''A third.'''\n    name = 'third'\n"
        "    class Params(Metric.Params):\n        of: float = 1.0\n"
        "    def compute(self, subject):\n        return self.params.of / 3\n"
    )
    (chosen,) = choose_metrics([{"name": f"{tmp_path / 'm.py'}:Third", "of": 1.5}], PluginRegistry(entry_points=False))
    assert chosen.metric.compute(None) == 0.5  # type: ignore[arg-type]
    assert str(tmp_path / "m.py") in chosen.who


@pytest.mark.parametrize(
    ("specs", "error", "message"),
    [
        (["hafl"], PluginError, "Did you mean 'half'"),
        ([{"name": "half", "off": 2}], ConfigError, "Did you mean 'of'"),
        (["half", "half"], ConfigError, "names 'half' twice"),
        ([{"of": 1}], ConfigError, "mapping with a `name`"),
        (["plain"], PluginError, r"write `class Plain\(Metric\):`"),
        (["lazy"], PluginError, "does not define compute"),
        (["half", "same"], PluginError, "both have a column 'half'"),
    ],
)
def test_what_cannot_be_chosen(specs: list[Any], error: type[Exception], message: str) -> None:
    plain = type("Plain", (), {"name": "plain"})
    lazy = type("Lazy", (Metric,), {"name": "lazy"})
    same = type("Same", (Half,), {"name": "same", "columns": (Column("half", ""),)})
    with pytest.raises(error, match=message):
        choose_metrics(specs, registry_with(Half, plain, lazy, same))


def test_a_column_of_the_table_cannot_be_replaced() -> None:
    with pytest.raises(PluginError, match="has a column 'half', which every row has already"):
        check_free(choose_metrics(["half"], registry_with(Half)), {"half": 1.0})


def test_frozen_models_are_measured_once(subjects: dict[str, Subject], tmp_path: Path) -> None:
    Counting.asked = 0
    chosen = choose_metrics(["counting"], registry_with(Counting))
    weights = {"original": "one", "oracle": "two"}
    first, _ = apply_metrics(chosen, subjects, weights=weights, cache=tmp_path, warn=pytest.fail)
    again, _ = apply_metrics(chosen, subjects, weights=weights, cache=tmp_path, warn=pytest.fail)
    assert Counting.asked == 4  # each frozen one once, the unlearned one each time
    assert {name: parts[0].figures for name, parts in first.items()} == {
        name: parts[0].figures for name, parts in again.items()
    }
    assert first["unlearned"][0].figures == {"counting": 0.0}


def test_another_setting_is_another_measurement(subjects: dict[str, Subject], tmp_path: Path) -> None:
    Counting.asked = 0
    one = subjects["original"]
    measure_cached(Counting(), "here", one, weights="w", cache=tmp_path)
    more = one.settings.model_copy(update={"interval_samples": 30, "metrics": ["half"]})
    measure_cached(Counting(), "here", replace(one, settings=more), weights="w", cache=tmp_path)
    assert Counting.asked == 1
    shorter = one.settings.model_copy(update={"max_new_tokens": 1})
    measure_cached(Counting(), "here", replace(one, settings=shorter), weights="w", cache=tmp_path)
    measure_cached(Counting(), "elsewhere", one, weights="w", cache=tmp_path)
    measure_cached(Counting(), "here", one, weights="v", cache=tmp_path)
    assert Counting.asked == 4
    for file in (tmp_path / "measured").iterdir():
        file.write_bytes(file.read_bytes()[:-4])
    measure_cached(Counting(), "here", one, weights="w", cache=tmp_path)
    assert Counting.asked == 5  # what cannot be read is measured again


def test_a_failure_is_told_with_who_it_was_and_the_others_go_on(subjects: dict[str, Subject], tmp_path: Path) -> None:
    told: list[str] = []
    chosen = choose_metrics(["fails", "half"], registry_with(Half, Fails))
    filled, seconds = apply_metrics(chosen, subjects, weights={}, cache=tmp_path, warn=told.append)
    for name, parts in filled.items():
        assert {key: value for part in parts for key, value in part.figures.items()} == {"fails": None, "half": 0.5}
        assert any(f"'{name}'" in text for text in told)
    assert len(told) == 3 and set(seconds) == {"fails", "half"}
    assert all("Metric 'fails' (this process, entry point 'mine')" in text and "KeyError" in text for text in told)


def test_randomness_is_each_metrics_own(subjects: dict[str, Subject], tmp_path: Path) -> None:
    """The same numbers whatever was drawn before, and nothing is drawn from the run's own state."""
    drawn: list[tuple[float, ...]] = []

    class Dice(Metric):
        """A throw."""

        name = "dice"

        def compute(self, subject: Subject) -> float:
            drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
            return 0.0

    chosen = choose_metrics(["dice"], registry_with(Dice))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    apply_metrics(chosen, subjects, weights={}, cache=tmp_path, warn=pytest.fail)
    assert len(set(drawn)) == 1 and len(drawn) == 3
    assert torch.equal(torch.get_rng_state(), before)
