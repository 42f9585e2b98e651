"""The settings of a run: the parts' settings in one tree, presets, and how a file, overrides and flags become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from deattrib.attribution.settings import CalibrationSettings, GuardSettings
from deattrib.corpus.settings import CorpusSettings
from deattrib.errors import ConfigError, did_you_mean
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.models.recipes import PolicySettings
from deattrib.models.settings import ModelSettings
from deattrib.ppo.settings import PPOSettings
from deattrib.runs.keys import digest_of
from deattrib.runs.overrides import apply_overrides, parse_override
from deattrib.runs.renamed import current
from deattrib.runs.validation import validate
from deattrib.yaml_file import load_yaml, parse_yaml

# numpy and trl take 32 bits; what is added to the seed for referee, second oracle and further retrainings needs room.
MOST_SEED = 2**31 - 1


class PluginSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Which plugins a run may load."""

    disable: list[str] = Field([], description="Entry points or scorer names that are not loaded.")
    require: list[str] = Field([], description="Distributions that must be there, with versions: 'my-scorer>=1.2'.")
    allow: list[str] | None = Field(None, description="If given, only these distributions or entry points are loaded.")


class RefereeSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Who judges the result: a scorer that nothing in the run optimises."""

    scorer: dict[str, Any] | None = Field(
        None, description="Its settings, with `name`; null: a classifier of another backbone than the reward's."
    )
    halves: bool = Field(True, description="Fit the referee on one half of the rows and the reward's own proxies on the other.")
    calibration: CalibrationSettings = CalibrationSettings()

    @field_validator("calibration")
    @classmethod
    def _always(cls, value: CalibrationSettings) -> CalibrationSettings:
        if not value.enabled:
            raise ValueError("the referee is always calibrated: remove `enabled`")
        return value


class CheckpointSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """When a run saves itself."""

    every: int = Field(20, ge=1, description="Steps between checkpoints; the last step always has one.")
    keep: int = Field(2, ge=1, description="Checkpoints kept.")


class RunConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Everything that decides what a run computes."""

    name: str = Field("run", description="Of the run folder and the titles.")
    preset: Literal["default", "paper", "ppo"] = Field(
        "default", description="Values for everything that is not set; see docs/presets.md."
    )
    seed: int = Field(0, ge=0, le=MOST_SEED, description="Everything random follows from it; at most 2147483647 (2^31 - 1).")
    reward: str | dict[str, Any] | list[str | dict[str, Any]] = Field(
        "classifier",
        description="The scorer whose attribution is the reward: a name, a mapping with settings, or a weighted list.",
    )
    method: str | dict[str, Any] = Field(
        "dareu",
        description="How to unlearn: dareu (PPO on the reward), a baseline of docs/methods.md, or a plugin's; a name, or a "
        "mapping with settings.",
    )
    attacks: list[str | dict[str, Any]] = Field(
        [],
        description="What is tried on the models after the run, by name or as mappings with settings; see docs/attacks.md.",
    )
    referee: RefereeSettings = RefereeSettings()
    corpus: CorpusSettings = CorpusSettings()
    model: ModelSettings = ModelSettings()
    policy: PolicySettings = PolicySettings()
    ppo: PPOSettings = PPOSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    guard: GuardSettings = GuardSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    plugins: PluginSettings = PluginSettings()

    def plain(self) -> dict[str, Any]:
        """Plain values, as they go into config.yaml."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """Hex digest of all settings: equal exactly when the settings are."""
        return digest_of(self.plain())

    @property
    def rewards(self) -> list[str | dict[str, Any]]:
        """The reward's scorers, one or several."""
        return self.reward if isinstance(self.reward, list) else [self.reward]


# The paper's published settings (section 5.1, appendix D and E); what it leaves open is documented in docs/presets.md.
PAPER: dict[str, Any] = {
    "calibration": {"enabled": False},
    "referee": {"halves": False},
    "reward": {
        "name": "classifier",
        "backbone": "causal",
        "prefixes": False,
        "mask_names": False,
        "epochs": 5,
        "learning_rate": 1e-4,
    },
    "policy": {"rank": 8, "alpha": 16.0},
    "ppo": {
        "data_epochs": 1,
        "policy_weight": 1.0,
        "epochs": 20,
        "batch_size": 32,
        "minibatch_size": 32,
        "temperature": 0.8,
        "refresh": "epoch",
        "learning_rate": 1.5e-4,
        "schedule": "constant",
        "warmup": 0,
        "whiten": False,
        "target_kl": None,
        "value_clip": None,
        "reward": {
            "shape": "chi",
            "slices": 15,
            "kl": 0.1,
            "kl_estimator": "full",
            "reference": "old",
            "normalise": "sum",
            "target": "own",
        },
        "retain": {"weight": 2.0, "batch_size": 32, "dropped_words": 0.0},
        "anchor": {"hinge": 0.0, "kl": 0.0},
    },
}
# The reward alone: no anchored term, no reference. Needs prompts, not names, a base model or the owners' true answers.
PPO: dict[str, Any] = {
    "ppo": {
        "policy_weight": 1.0,
        "batch_size": 32,
        "minibatch_size": 32,
        "temperature": 1.5,
        "reward": {"reference": "none"},
        "retain": {"weight": 2.0},
        "anchor": {"hinge": 0.0, "kl": 0.0},
    }
}
PRESETS: dict[str, dict[str, Any]] = {"default": {}, "paper": PAPER, "ppo": PPO}


def build_config(
    *,
    path: Path | None = None,
    data: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    reward: str | Mapping[str, Any] | None = None,
    method: str | Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> RunConfig:
    """One config from a preset, a file or mapping, `--set` items and flags, each over the one before.

    Args:
        path: YAML file; data: the same tree as plain values, where there is no file.
        overrides: items such as "ppo.steps=60", values in YAML.
        reward, method, seed: as the settings of these names.

    Raises:
        ConfigError: naming every wrong setting with file, path, and what was expected.
    """
    given = dict(load_yaml(path)) if path is not None else dict(data or {})
    source = str(path) if path is not None else "the config"
    flags = {key: chosen for key, chosen in (("reward", reward), ("method", method)) if chosen is not None}
    own = [item for item in overrides if len(keys := parse_override(item)[0]) > 1 and keys[0] in flags]  # of what a flag names
    given = apply_overrides(given, [item for item in overrides if item not in own])
    for key, chosen in flags.items():
        has_own = any(parse_override(item)[0][0] == key for item in own)
        given[key] = {"name": chosen} if has_own and isinstance(chosen, str) else chosen
    given = apply_overrides(given, own)
    if seed is not None:
        given["seed"] = seed
    given = dict(current(RunConfig, given, source=source))  # before a preset's values are below it
    ppo = given.get("ppo")
    if isinstance(ppo, Mapping) and "steps" in ppo and "data_epochs" not in ppo:
        given["ppo"] = {**ppo, "data_epochs": None}  # steps that were asked for win over a preset's passes
    preset = given.get("preset", "default")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ConfigError(f"{source}: preset {preset!r} is unknown.{did_you_mean(str(preset), PRESETS)}")
    return validate(RunConfig, merge(PRESETS[preset], given), source=source)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, mapping by mapping; a mapping that names a scorer replaces the whole one below."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        joins = isinstance(old, Mapping) and isinstance(value, Mapping) and "name" not in value
        result[key] = merge(old, value) if joins and isinstance(old, Mapping) else value
    return result


def demo_settings() -> dict[str, Any]:
    """What `demo.yaml` says, which comes with the library."""
    text = resources.files("deattrib.runs").joinpath("demo.yaml").read_text(encoding="utf-8")
    return parse_yaml(text, source="demo.yaml")
