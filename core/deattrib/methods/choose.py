"""From `method:` in a config to a class and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deattrib.attribution.choice import Chosen, choose
from deattrib.attribution.plugins import PluginRegistry
from deattrib.errors import ConfigError
from deattrib.ppo.unlearner import Unlearner

_EXAMPLE = "{name: npo, beta: 0.1}"


def choose_method(spec: str | Mapping[str, Any], registry: PluginRegistry) -> Chosen[Unlearner]:
    """The method called, or named by ``file.py:Class`` or ``module:Class``; a mapping adds settings to the `name`.

    Raises:
        PluginError: unknown (with close names), disabled, failed, or not derived from `deattrib.Unlearner`.
        ConfigError: a setting is unknown or has a wrong value.
    """
    own = {Unlearner.name: Unlearner}  # the engine itself is there whatever plugins a run allows
    return choose("method", spec, registry, base=Unlearner, public="Method", example=_EXAMPLE, own=own)


def method_name(spec: str | Mapping[str, Any]) -> str:
    """One word for the method of a config: the class for one from a file. Raises ConfigError where it has no name."""
    name = spec.get("name") if isinstance(spec, Mapping) else spec
    if not isinstance(name, str):
        raise ConfigError(f"A method is a name or a mapping with a `name`, such as {_EXAMPLE}; got {spec!r}.")
    return name.rpartition(":")[2]
