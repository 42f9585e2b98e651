"""One config from preset, file, overrides and flags; and which reference a run really gets."""

from __future__ import annotations

import dataclasses
import math
import re
import threading
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from deattrib.attribution.loading import Origin, check_params
from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.scorer import Scorer
from deattrib.attribution.settings import LONGEST
from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError
from deattrib.runs.config import MOST_SEED, RunConfig, build_config
from deattrib.runs.maker import SECOND_SEED
from deattrib.runs.session import REFEREE_SEED, _without_names, default_referee, settle_references
from deattrib.runs.validation import validate


def test_the_paper_preset_has_the_published_numbers() -> None:
    """Lu et al. 2026, section 4.2.1, section 5.1, appendix D and E."""
    config = build_config(data={"preset": "paper"})
    ppo = config.ppo
    assert (ppo.epochs, ppo.batch_size, ppo.data_epochs, ppo.learning_rate, ppo.temperature) == (20, 32, 1, 1.5e-4, 0.8)
    assert (ppo.clip, ppo.value_coefficient, ppo.gae_lambda, ppo.policy_weight) == (0.2, 0.2, 1.0, 1.0)
    assert (ppo.reward.shape, ppo.reward.slices, ppo.reward.c_seg, ppo.reward.kl) == ("chi", 15, 1.05, 0.1)
    assert (ppo.reward.reference, ppo.reward.kl_estimator, ppo.reward.normalise, ppo.refresh) == ("old", "full", "sum", "epoch")
    assert (ppo.retain.weight, ppo.retain.dropped_words) == (2.0, 0.0)
    assert (ppo.anchor.hinge, ppo.anchor.kl) == (0.0, 0.0)
    assert (config.policy.rank, config.policy.alpha) == (8, 16.0)
    assert not config.calibration.enabled


def test_each_layer_goes_over_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("preset: paper\nseed: 3\nppo: {steps: 5, reward: {slices: 4}}\n")
    config = build_config(path=path, overrides=["ppo.reward.slices=6"], reward="membership", seed=9)
    assert (config.ppo.reward.slices, config.ppo.reward.shape, config.reward, config.seed) == (6, "chi", "membership", 9)
    assert (config.ppo.steps, config.ppo.data_epochs) == (5, None)  # steps that were asked for win over the preset's pass


def test_a_resolved_config_loads_again_unchanged() -> None:
    for preset in ("default", "paper", "ppo"):
        config = build_config(data={"preset": preset})
        assert validate(RunConfig, config.plain(), source="again") == config


@pytest.mark.parametrize("preset", ["papre", ["paper"], 3])
def test_an_unknown_preset_is_refused(preset: object) -> None:
    with pytest.raises(ConfigError, match="preset"):
        build_config(data={"preset": preset})


def test_the_referee_has_another_backbone_than_the_reward() -> None:
    assert default_referee("classifier")["backbone"] == "causal"
    assert default_referee({"name": "classifier", "backbone": "causal"})["backbone"] == "ngram"
    assert default_referee("shuffled-owner")["backbone"] == "causal"
    assert default_referee(["membership", {"name": "classifier", "backbone": "causal"}])["backbone"] == "ngram"


def test_references_follow_what_is_there(tiny_corpus: Corpus, tiny_llama: object) -> None:
    ppo = build_config(data={}).ppo
    nameless = dataclasses.replace(tiny_corpus, identities={})
    assert settle_references(ppo, tiny_corpus, based=True) == ppo
    assert settle_references(ppo, tiny_corpus, based=False).anchor.towards == "counterfactual"
    without_names = settle_references(ppo, nameless, based=True)
    assert (without_names.reward.reference, without_names.anchor.towards) == ("base", "base")
    with pytest.raises(ConfigError, match=r"identity.*model\.base"):
        settle_references(ppo, nameless, based=False)
    for preset in ("paper", "ppo"):  # these need neither
        alone = build_config(data={"preset": preset}).ppo
        assert settle_references(alone, nameless, based=False) == alone


def test_one_nameless_owner_among_named_ones_is_told(tiny_corpus: Corpus) -> None:
    ppo = build_config(data={}).ppo
    last = tiny_corpus.owners[-1]
    partly = dataclasses.replace(tiny_corpus, identities={**tiny_corpus.identities, last: ()})
    told = _without_names(ppo, settle_references(ppo, partly, based=True), partly)
    assert told.startswith(f"1 of {len(partly.owners)} owners") and repr(last) in told
    assert "ppo.reward.reference and ppo.anchor.towards" in told
    nameless = dataclasses.replace(tiny_corpus, identities={})  # then it is no slip of the data
    for corpus in (nameless, tiny_corpus):
        assert _without_names(ppo, settle_references(ppo, corpus, based=True), corpus) == ""


# -- defaults ------------------------------------------------------------------------------------------------------------
def defaults(model: type[BaseModel], instance: BaseModel, above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each setting, what its own class says it is by default, and what it is where nothing is set."""
    for name, field in model.model_fields.items():
        value = getattr(instance, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from defaults(field.annotation, value, f"{above}{name}.")
        else:
            yield above + name, field.get_default(call_default_factory=True), value


def test_setting_one_thing_changes_no_other() -> None:
    """A section's defaults are its class': with defaults of the place, naming one setting of it would change the others."""
    found = list(defaults(RunConfig, RunConfig()))
    assert len(found) > 100 and [(path, one, other) for path, one, other in found if one != other] == []


# -- numbers that are none -----------------------------------------------------------------------------------------------
def takes_float(kind: Any) -> bool:
    return kind is float or any(takes_float(inner) for inner in typing.get_args(kind))


def float_settings(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all settings that take a float, sections included."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from float_settings(field.annotation, (*above, name))
        elif takes_float(field.annotation):
            yield (*above, name)


@pytest.mark.parametrize("path", float_settings(RunConfig), ids=".".join)
def test_numbers_that_are_not_finite_are_refused_everywhere(path: tuple[str, ...]) -> None:
    for value in (float("nan"), float("inf"), float("-inf"), "nan", "Infinity"):
        data: Any = value
        for name in reversed(path):
            data = {name: data}
        with pytest.raises(ConfigError, match=rf"{re.escape('.'.join(path))}: got .*(finite|greater|less)"):
            build_config(data=data)


def test_there_are_settings_with_floats() -> None:
    paths = {".".join(path) for path in float_settings(RunConfig)}
    assert {"ppo.learning_rate", "ppo.reward.chance", "guard.time_limit", "model.training.epochs"} <= paths


@pytest.mark.parametrize("kind", ["scorer", "metric", "method", "attack"])
def test_nor_are_they_settings_of_what_plugins_bring(kind: str) -> None:
    registry = PluginRegistry()
    for name in registry.names(kind):
        cls = getattr(registry, kind)(name)
        for path in float_settings(cls.Params):
            for value in (float("nan"), "inf"):
                with pytest.raises(ConfigError, match=path[0]):
                    check_params(cls, {path[0]: value}, registry.origin(cls), kind=kind)


def test_a_plugin_for_which_infinity_means_something_says_so() -> None:
    class Params(Scorer.Params):
        model_config = ConfigDict(allow_inf_nan=True)
        longest: float = 1.0

    cls = type("Patient", (Scorer,), {"name": "patient", "Params": Params})
    assert check_params(cls, {"longest": math.inf}, Origin("here")).model_dump() == {"longest": math.inf}
    with pytest.raises(ConfigError, match="no setting 'x'"):  # the rest of the base's rules stays
        check_params(cls, {"x": 1}, Origin("here"))


@pytest.mark.parametrize(
    ("path", "value"), [("guard.slow_warning", 1e300), ("guard.time_limit", 1e300), ("model.training.epochs", 1e308)]
)
def test_finite_numbers_that_overflow_are_refused(path: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{re.escape(path)}: got .*less than or equal"):
        build_config(data={}, overrides=[f"{path}={value!r}"])


def test_the_longest_times_and_trainings_can_be_had() -> None:
    assert LONGEST < threading.TIMEOUT_MAX
    longest = build_config(data={"model": {"training": {"epochs": 1e6, "steps": None}}}).model.training
    assert longest.steps_on(longest.batch_size) == 1_000_000


@pytest.mark.parametrize("seed", [2**64, 2**64 - 1, 2**63, 2**32, 10**30, -1])
def test_a_seed_that_no_generator_takes_is_refused(seed: int) -> None:
    with pytest.raises(ConfigError, match=r"seed: got .*expected a value (less|greater) than or equal to"):
        build_config(data={"seed": seed})


def test_the_largest_seed_leaves_room_for_what_is_added() -> None:
    config = build_config(data={"seed": MOST_SEED})
    for added in (0, REFEREE_SEED, SECOND_SEED):
        words = np.random.RandomState(config.seed + added).get_state(legacy=True)[1]  # the narrowest of all: 32 bits
        assert int(words[0]) == MOST_SEED + added  # type: ignore[index]


@pytest.mark.parametrize("chance", [1.0, -0.1, "automatic"])
def test_a_chance_level_leaves_room_above_it(chance: Any) -> None:
    with pytest.raises(ConfigError, match=r"ppo\.reward\.chance"):
        build_config(data={"ppo": {"reward": {"chance": chance}}})
    assert build_config(data={"ppo": {"reward": {"chance": 0.25}}}).ppo.reward.chance == 0.25


def test_settings_of_what_a_flag_names_are_kept() -> None:
    """`--method npo --set method.beta=0.5`, whatever method the file has."""
    for below in ({}, {"method": "ga"}, {"method": {"name": "npo", "beta": 0.2, "retain": "kl"}}):
        config = build_config(data=below, method="npo", overrides=["method.beta=0.5", "ppo.steps=3"])
        assert config.method == {"name": "npo", "beta": 0.5} and config.ppo.steps == 3
    both = build_config(reward="membership", method="npo", overrides=["method.beta=0.5"])
    assert both.reward == "membership"  # a mapping would be another digest of the same run
    config = build_config(reward={"name": "classifier", "epochs": 3}, method="npo", overrides=["reward.backbone=causal"])
    assert config.reward == {"name": "classifier", "epochs": 3, "backbone": "causal"}
    assert build_config(method="npo", overrides=["reward=membership"]).method == "npo"
