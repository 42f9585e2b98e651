"""From what a setting says of a method, metric or attack to its class and checked settings: one way for all of them.

Scorers have their own (`PluginRegistry.make`): they may also be given as classes and objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from deattrib.attribution.loading import Origin, check_params
from deattrib.attribution.plugins import PluginRegistry
from deattrib.errors import ConfigError, PluginError

Spec = str | Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Chosen(Generic[T]):
    """A class, its checked settings, and who brought it.

    Attributes:
        kind: "method", "metric" or "attack".
    """

    kind: str
    cls: type[T]
    params: BaseModel
    origin: Origin

    @property
    def name(self) -> str:
        name: str = getattr(self.cls, "name")  # noqa: B009 - every class that `choose` takes has one, T does not say so
        return name

    @property
    def who(self) -> str:
        """The beginning of a message about it."""
        return f"{self.kind.capitalize()} {self.name!r} ({self.origin})"


def choose(
    kind: str,
    spec: Spec,
    registry: PluginRegistry,
    *,
    base: type[T],
    public: str,
    example: str,
    own: Mapping[str, type[T]] | None = None,
) -> Chosen[T]:
    """What is called, or named by ``file.py:Class`` or ``module:Class``; a mapping adds settings to the `name`.

    Args:
        base: what the class must be derived from; `public` is what to derive one's own from.
        example: a mapping with settings, for the message.
        own: classes that are there whatever plugins a run allows.

    Raises:
        PluginError: unknown (with close names), disabled, failed, or not derived from `base`.
        ConfigError: a setting is unknown or has a wrong value.
    """
    values = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = values.pop("name", None)
    if not isinstance(name, str):
        article = "An" if kind[0] in "aeiou" else "A"
        raise ConfigError(f"{article} {kind} is a name or a mapping with a `name`, such as {example}; got {spec!r}.")
    cls: Any = (own or {}).get(name) or getattr(registry, kind)(name)
    origin = registry.origin(cls)
    if not issubclass(cls, base):
        raise PluginError(
            f"{kind.capitalize()} {name!r} ({origin}): class {cls.__name__} is not derived from deattrib.{public}: write "
            f"`class {cls.__name__}({public}):`."
        )
    return Chosen(kind, cls, check_params(cls, values, origin, kind=kind), origin)
