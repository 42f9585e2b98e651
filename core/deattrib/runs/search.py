"""Settings to try: points of a method's search space, and how settings are laid over a config.

The first trial is the config as it stands, so that tuning never ends with less than what it began with; the others are a
scrambled Halton sequence (Owen 2017), which covers a few dimensions more evenly than independent draws and does not
depend on how many points are asked for: a larger budget goes on where a smaller one ended.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from deattrib.attribution.plugins import PluginRegistry
from deattrib.errors import ConfigError
from deattrib.methods.choose import choose_method
from deattrib.ppo.search import Choice, SearchSpace, Span
from deattrib.runs.config import RunConfig, build_config

Settings = Mapping[str, Any]


def with_settings(data: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """A copy of a config's data with settings over it.

    Args:
        settings: dotted paths, or names of the method's own settings.

    Raises:
        ConfigError: a path leads through something that has no settings.
    """
    result = copy.deepcopy(dict(data))
    for path, value in settings.items():
        *above, last = path.split(".") if "." in path else ["method", path]
        if above == ["method"]:
            spec = result.get("method", "dareu")
            result["method"] = {"name": spec} if isinstance(spec, str) else dict(spec)
        here = result
        for key in above:
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                raise ConfigError(f"Setting {path!r}: {key!r} is {here!r}, which has no settings of its own.")
        here[last] = value
        if path == "ppo.steps":
            here["data_epochs"] = None  # as on the command line: steps that are asked for win
    return result


def space_of(config: RunConfig, registry: PluginRegistry) -> SearchSpace:
    """What can be tuned of a config's method: learning rate, steps, and what its class declares in `search`.

    What the config sets of the method itself stays as it is.

    Raises:
        ConfigError: the class declares something else.
    """
    cls = choose_method(config.method, registry).cls
    for name, span in cls.search.items():
        if not isinstance(span, Span | Choice):
            raise ConfigError(
                f"Method {cls.name!r}: search[{name!r}] is {span!r}; expected a deattrib.Span or deattrib.Choice."
            )
    fixed = said_of(config.method)
    return {name: span for name, span in {**cls.pace, **cls.search}.items() if name not in fixed}


def said_of(method: str | Mapping[str, Any]) -> set[str]:
    """Settings that a method's own mapping has: neither searched nor replaced by tuned ones."""
    own = set() if isinstance(method, str) else set(method)
    return own | {f"ppo.{name}" for name in ("steps", "learning_rate") if name in own}  # its own go over the loop's


def trials(
    data: Mapping[str, Any], space: SearchSpace, count: int, *, rows: int | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Settings of `count` trials; the first is {} (the config as it stands).

    Args:
        data: the config's data, with its method; relative ranges are relative to its values.
        rows: how many are to be forgotten: what `ppo.data_epochs` makes of them is what steps are relative to.
        seed: of the sequence.
    """
    from scipy.stats import qmc

    first: dict[str, Any] = {}
    if count < 2 or not space:
        return [first][:count]
    points = qmc.Halton(d=len(space), scramble=True, seed=seed).random(count - 1)
    own = {name: _own(data, name) for name in space}
    if rows is not None and "ppo.steps" in space:
        own["ppo.steps"] = float(build_config(data=data).ppo.steps_on(rows))
    drawn = [
        {name: span.at(float(share), own[name]) for (name, span), share in zip(space.items(), point, strict=True)}
        for point in points
    ]
    return [first, *drawn]


def _own(data: Mapping[str, Any], path: str) -> float | None:
    """The config's own number at a dotted path; None for anything else."""
    here: Any = build_config(data=data).plain()
    for key in path.split("."):
        here = here.get(key) if isinstance(here, Mapping) else None
    return float(here) if isinstance(here, int | float) and not isinstance(here, bool) and math.isfinite(here) else None
