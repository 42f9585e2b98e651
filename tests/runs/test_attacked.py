"""Attacks chosen, run and kept: what is refused, what a failure costs, and what is never attacked twice."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.attacks.conftest import SETTINGS
from torch import nn

from deattrib import Attack, AttackResult, AttackSubject, ConfigError, PluginError, PluginRegistry, hookimpl
from deattrib.corpus.types import Corpus
from deattrib.models.language_model import Codec, LanguageModel, fingerprint
from deattrib.runs.attacked import attack_models, choose_attacks
from deattrib.runs.config import build_config

RAN: list[str] = []


class Counting(Attack):
    """Count the calls."""

    name = "counting"
    what = "Calls so far."

    class Params(Attack.Params):
        factor: float = 1.0

    def run(self, subject: AttackSubject) -> AttackResult:
        RAN.append(subject.name)
        return AttackResult(
            self.params.factor * len(RAN), [(1, 2.0), (2.0, math.nan)], interval=(0, math.inf), more={"a": None}
        )


class Failing(Attack):
    """Fail."""

    name = "failing"

    def run(self, subject: AttackSubject) -> AttackResult:
        torch.rand(3)
        raise ZeroDivisionError("no rows")


class Meddling(Attack):
    """Change what must not be changed."""

    name = "meddling"

    def run(self, subject: AttackSubject) -> AttackResult:
        next(subject.model.model.parameters()).data.mul_(1.01)
        return AttackResult(0.5)


class Wordy(Attack):
    """Give words for numbers."""

    name = "wordy"

    def run(self, subject: AttackSubject) -> AttackResult:
        return AttackResult("much")  # type: ignore[arg-type]


class Bare(Attack):
    """Give no result at all."""

    name = "bare"

    def run(self, subject: AttackSubject) -> AttackResult:
        return 0.5  # type: ignore[return-value]


class Stranger:
    """Not an attack."""

    name = "stranger"


@pytest.fixture
def registry() -> PluginRegistry:
    class Plugin:
        @hookimpl
        def attacks(self) -> list[type[Any]]:
            return [Counting, Failing, Meddling, Wordy, Bare, Stranger]

    made = PluginRegistry(entry_points=False)
    made.register(Plugin(), name="here")
    RAN.clear()
    return made


@pytest.fixture
def model(tiny_llama: nn.Module, tiny_codec: Codec) -> LanguageModel:
    return LanguageModel(tiny_llama, tiny_codec, name="original")


def attack(
    registry: PluginRegistry, model: LanguageModel, corpus: Corpus, cache: Path, *specs: Any, frozen: bool = True, seed: int = 0
) -> dict[str, Any]:
    weights = {"original": fingerprint(model.model)} if frozen else {}
    chosen = choose_attacks(specs, registry)
    models = {"original": model, "oracle": None}
    found = attack_models(chosen, models, corpus, SETTINGS, seed=seed, weights=weights, cache=cache)
    assert set(found) == {"original"}
    return found["original"]


@pytest.mark.parametrize(
    ("specs", "error", "message"),
    [
        (["countin"], PluginError, "There is no attack 'countin'. Did you mean 'counting'"),
        ([{"name": "counting", "facter": 2}], ConfigError, "Attack 'counting'.*no setting 'facter'. Did you mean 'factor'"),
        ([{"name": "counting", "factor": "x"}], ConfigError, "setting 'factor'"),
        ([{"factor": 2}], ConfigError, "name or a mapping with a `name`"),
        (["counting", {"name": "counting", "factor": 2}], ConfigError, "named twice"),
        (["stranger"], PluginError, "not derived from deattrib.Attack"),
        (["nowhere.py:Shouting"], PluginError, "Attack file .*nowhere.py does not exist"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is(
    registry: PluginRegistry, specs: list[Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        choose_attacks(specs, registry)


def test_a_config_takes_names_and_settings() -> None:
    given = build_config(data={}, overrides=["attacks=[int4, {name: sampling, samples: 4}]"]).attacks
    assert given == ["int4", {"name": "sampling", "samples": 4}]
    assert [item.name for item in choose_attacks(given, PluginRegistry())] == ["int4", "sampling"]
    assert build_config(data={}).attacks == []


def test_an_entry_is_json_with_nothing_but_numbers(
    registry: PluginRegistry, model: LanguageModel, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    entry = attack(registry, model, tiny_corpus, tmp_path, {"name": "counting", "factor": 2})["counting"]
    assert (entry["figure"], entry["curve"], entry["interval"]) == (2.0, [[1.0, 2.0], [2.0, None]], [0.0, None])
    assert (entry["what"], entry["more"], entry["error"]) == ("Calls so far.", {"a": None}, None)
    assert entry["settings"] == {"factor": 2.0} and entry["seconds"] >= 0
    json.dumps(entry, allow_nan=False)


def test_an_attack_that_fails_costs_its_figure_only(
    registry: PluginRegistry, model: LanguageModel, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    state = torch.random.get_rng_state()
    found = attack(registry, model, tiny_corpus, tmp_path, "failing", "wordy", "bare", "counting")
    assert [found[name]["figure"] for name in ("failing", "wordy", "bare", "counting")] == [None, None, None, 1.0]
    assert "Attack 'failing'" in found["failing"]["error"] and "ZeroDivisionError: no rows" in found["failing"]["error"]
    assert "figure has 'much'" in found["wordy"]["error"] and "expected an AttackResult" in found["bare"]["error"]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(list((tmp_path / "attacks").iterdir())) == 1  # failures are not kept


def test_a_model_that_was_changed_is_attacked_no_further(
    registry: PluginRegistry, model: LanguageModel, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    found = attack(registry, model, tiny_corpus, tmp_path, "meddling", "counting")
    assert found["meddling"]["figure"] is None and "changed the weights of 'original'" in found["meddling"]["error"]
    assert found["counting"]["figure"] is None and "not run" in found["counting"]["error"] and not RAN
    assert not (tmp_path / "attacks").exists()


def test_frozen_models_are_attacked_once_and_others_every_time(
    registry: PluginRegistry, model: LanguageModel, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    first = attack(registry, model, tiny_corpus, tmp_path, "counting")
    assert attack(registry, model, tiny_corpus, tmp_path, "counting") == first and len(RAN) == 1
    for changed in ({"seed": 1}, {"frozen": False}):
        attack(registry, model, tiny_corpus, tmp_path, "counting", **changed)  # type: ignore[arg-type]
    attack(registry, model, tiny_corpus, tmp_path, {"name": "counting", "factor": 3})
    assert len(RAN) == 4
    for file in (tmp_path / "attacks").iterdir():
        file.write_text("{")
    attack(registry, model, tiny_corpus, tmp_path, "counting")  # what cannot be read is made again
    for file in (tmp_path / "attacks").iterdir():
        file.write_text(file.read_text().replace('"figure": ', '"figure": 1'))
    attack(registry, model, tiny_corpus, tmp_path, "counting")  # and what was changed
    next(model.model.parameters()).data.mul_(1.5)
    attack(registry, model, tiny_corpus, tmp_path, "counting")
    assert len(RAN) == 7
