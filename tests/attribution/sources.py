"""Scorers for tests of plugins: the source of a module that brings one, and classes that an object brings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from deattrib import PluginRegistry, Scorer, hookimpl

SCORER = """
from deattrib import Scorer, hookimpl

class {cls}(Scorer):
    \"\"\"Counts words.

    More.
    \"\"\"

    name = "{name}"
    {body}

    def score(self, rows):
        return [0.0] * len(rows)

@hookimpl
def scorers():
    return [{cls}]
"""

EXTRAS: dict[str, Any] = {
    "extras": ("sparkle", "all"),
    "requires": ('absent-lib>=1; extra == "sparkle"', 'absent-lib>=1; extra == "all"', 'other; extra == "all"'),
}


def scorer_source(name: str, cls: str = "Words", body: str = "") -> str:
    """A module that brings one scorer; `body` goes into its class."""
    return SCORER.format(name=name, cls=cls, body=body)


class Simple(Scorer):
    """A scorer made in this file."""

    name = "simple"

    class Params(Scorer.Params):
        width: int = 3
        label: str = "a"

    def score(self, rows: Any) -> Any:
        return [0.0] * len(rows)


def plugin_with(*classes: Any, hook: str = "scorers") -> SimpleNamespace:
    def registration() -> list[Any]:
        return list(classes)

    return SimpleNamespace(**{hook: hookimpl(registration)})


def registry_with(*classes: Any, hook: str = "scorers") -> PluginRegistry:
    registry = PluginRegistry(entry_points=False)
    registry.register(plugin_with(*classes, hook=hook), name="test-plugin")
    return registry


def by_name(registry: PluginRegistry) -> dict[str, dict[str, Any]]:
    """The listing by name."""
    return {row["name"]: row for row in registry.listing()}
