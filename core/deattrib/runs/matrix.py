"""The runs of a comparison: rewards and methods by seeds, tuned settings and variants laid over a base.

dareu x every reward          what the reward is trained for
every other method            with the base's own reward, whose scorer only judges those that are not trained on it
variants                      of dareu with the first reward: named lists of overrides, each over everything else
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deattrib.compare.folders import ENGINE, Label
from deattrib.errors import ConfigError
from deattrib.methods.choose import choose_method, method_name
from deattrib.runs.config import RunConfig, build_config
from deattrib.runs.folder import plain_name
from deattrib.runs.identity import registry_of
from deattrib.runs.overrides import apply_overrides
from deattrib.runs.search import said_of, with_settings
from deattrib.yaml_file import load_yaml

Spec = str | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """One run to be made."""

    label: Label
    config: RunConfig

    @property
    def folder_name(self) -> str:
        """Readable, and different for different settings."""
        words = (self.label.method, self.label.reward, self.label.variant)
        return "-".join([*(plain_name(word) for word in words if word), f"seed{self.label.seed}", self.config.digest[:8]])

    @property
    def models(self) -> str:
        """Equal for runs that share original and oracles."""
        plain = self.config.plain()
        return hashlib.sha256(json.dumps([plain["corpus"], plain["model"], plain["seed"]]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Matrix:
    """What is to be compared.

    Attributes:
        base: settings as in a config file; its `reward` judges the methods that are not trained on one.
        rewards: label -> scorer, for dareu. Without any and without methods: the base's.
        methods: label -> method.
        seeds: of every run.
        variants: name -> overrides ("a.b=c").
        tuned: method -> settings (dotted paths, or names of the method's own); what `methods` says itself goes over them.
    """

    base: Mapping[str, Any]
    rewards: Mapping[str, Spec]
    methods: Mapping[str, Spec]
    seeds: Sequence[int]
    variants: Mapping[str, Sequence[str]]
    tuned: Mapping[str, Mapping[str, Any]]

    def cells(self) -> list[Cell]:
        """All runs, entry by entry. Raises ConfigError, naming the variant or method whose settings are wrong."""
        build_config(data=self.base)  # says what is wrong with it before anything is read from it
        if method_name(self.base.get("method", ENGINE)) != ENGINE:
            raise ConfigError(
                f"The config's own method is {method_name(self.base['method'])!r}, which a comparison would not run: leave it "
                "out of the config and name it in --methods."
            )
        judge = self.base.get("reward", RunConfig.model_fields["reward"].default)
        own = {_word(judge): judge}
        engine = next((spec for spec in self.methods.values() if method_name(spec) == ENGINE), ENGINE)
        # The config's own reward, called by its bare name, keeps its settings.
        rewards = {word: own.get(word, reward) if reward == word else reward for word, reward in self.rewards.items()}
        named = any(method_name(spec) == ENGINE for spec in self.methods.values())
        if not rewards and (named or self.variants or not self.methods):
            rewards = own
        entries: list[tuple[str, Spec, str, Any, str, Sequence[str]]] = []
        entries += [(ENGINE, engine, word, reward, "", ()) for word, reward in rewards.items()]
        entries += [
            (word, method, next(iter(own)), judge, "", ())
            for word, method in self.methods.items()
            if method_name(method) != ENGINE
        ]
        first = next(iter(rewards.items()), None)
        if first is not None:
            entries += [(ENGINE, engine, *first, name, tuple(items)) for name, items in self.variants.items()]
        return [self._cell(*entry, seed) for entry in entries for seed in self.seeds]

    def _cell(
        self, method_word: str, method: Spec, reward_word: str, reward: Any, variant: str, items: Sequence[str], seed: int
    ) -> Cell:
        data = {**self.base, "reward": reward, "method": method, "seed": seed}
        tuned = self.tuned.get(_class_of(json.dumps(method), json.dumps(data.get("plugins"))).name, {})
        data = with_settings(data, {name: value for name, value in tuned.items() if name not in said_of(method)})
        try:
            changed = apply_overrides(data, items)
            config = build_config(data=changed)
        except ConfigError as error:
            raise ConfigError(f"{f'Variant {variant!r}' if variant else f'Method {method_word!r}'}: {error}") from error
        if config.seed != seed:
            raise ConfigError(f"Variant {variant!r} sets the seed: give all seeds with --seeds.")
        if variant and changed["reward"] != reward:
            reward_word = _word(config.reward)
        if variant and changed["method"] != data["method"]:
            method_word = method_name(config.method)
        plain = config.plain()
        rewarded = _class_of(json.dumps(plain["method"]), json.dumps(plain["plugins"])).rewarded
        return Cell(Label(method_word, reward_word, variant, config.seed, rewarded), config)


@functools.cache
def _class_of(method: str, plugins: str) -> Any:
    """The class of a method; settings as JSON, so that what is installed is looked through once."""
    data = {"method": json.loads(method), "plugins": json.loads(plugins)}
    config = build_config(data={name: value for name, value in data.items() if value is not None})
    return choose_method(config.method, registry_of(config)).cls


def _word(reward: Any) -> str:
    """The scorers' names joined with "+"."""
    specs = reward if isinstance(reward, list) else [reward]
    return "+".join(spec if isinstance(spec, str) else str(spec.get("name")) for spec in specs)


def read_variants(path: Path) -> dict[str, list[str]]:
    """Name -> overrides, from a YAML file. Raises ConfigError."""
    found = {}
    for name, items in load_yaml(path).items():
        if isinstance(items, str):
            items = [items]
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ConfigError(f"{path}: variant {name!r} is {items!r}; expected a list of overrides such as ['ppo.steps=10'].")
        found[str(name)] = list(items)
    return found
