"""From `method:` in a config to a class and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from deattrib.attribution.loading import check_params
from deattrib.attribution.plugins import PluginRegistry
from deattrib.errors import ConfigError, PluginError
from deattrib.ppo.unlearner import Unlearner


@dataclass(frozen=True, slots=True)
class Chosen:
    """A method's class and its checked settings."""

    cls: type[Unlearner]
    params: BaseModel


def choose_method(spec: str | Mapping[str, Any], registry: PluginRegistry) -> Chosen:
    """The method called, or named by ``file.py:Class`` or ``module:Class``; a mapping adds settings to the `name`.

    Raises:
        PluginError: unknown (with close names), disabled, failed, or not derived from `deattrib.Unlearner`.
        ConfigError: a setting is unknown or has a wrong value.
    """
    values = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = values.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"A method is a name or a mapping with a `name`, such as {{name: npo, beta: 0.1}}; got {spec!r}.")
    # The engine itself is there whatever plugins a run allows.
    cls: Any = Unlearner if name == Unlearner.name else registry.method(name)
    if not issubclass(cls, Unlearner):
        raise PluginError(
            f"Method {name!r} ({registry.origin(cls)}): class {cls.__name__} is not derived from deattrib.Method: write "
            f"`class {cls.__name__}(Method):`."
        )
    return Chosen(cls, check_params(cls, values, registry.origin(cls), kind="method"))


def method_name(spec: str | Mapping[str, Any]) -> str:
    """One word for the method of a config that `choose_method` took: the class for one from a file."""
    name = spec if isinstance(spec, str) else str(spec["name"])
    return name.rpartition(":")[2]
