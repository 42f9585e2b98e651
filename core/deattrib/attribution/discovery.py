"""Entry points of group ``deattrib``: which may be imported, what they bring, and what they were refused for.

Each is loaded by itself. What pluggy lets pass is refused here: a second distribution with the same entry-point name
(pluggy drops it silently), a misspelt hook, a plugin without any hook.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal

import pluggy
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from deattrib.attribution.extras import extra_of, missing_extra
from deattrib.attribution.hookspecs import AttributionReward
from deattrib.attribution.loading import KINDS, Origin, classes_from, describe
from deattrib.attribution.scorer import Scorer
from deattrib.errors import DeattribError, PluginError, did_you_mean

GROUP = "deattrib"
VARIABLE = "DEATTRIB_PLUGINS"
State = Literal["ready", "disabled", "failed"]


@dataclass(slots=True)
class Item:
    """One class that a plugin brings."""

    kind: str
    cls: type[Any]
    state: State = "ready"
    reason: str = ""


@dataclass(slots=True)
class Plugin:
    """One entry point and what became of it.

    Attributes:
        lacks_extra: it failed only because an optional dependency of its distribution is not installed.
        claims: names of the classes it returned, also of those that were refused.
        observes: the observer hooks it implements.
    """

    name: str
    origin: Origin
    state: State = "ready"
    reason: str = ""
    lacks_extra: bool = False
    claims: tuple[str, ...] = ()
    items: list[Item] = field(default_factory=list)
    observes: tuple[str, ...] = ()

    def answers_to(self, name: str) -> bool:
        """Whether a name in a setting means this plugin: its entry point or its distribution."""
        return name == self.name or canonicalize_name(name) == canonicalize_name(self.origin.distribution)


def discover(disable: Sequence[str], allow: Sequence[str] | None) -> list[tuple[Plugin, Callable[[], Any]]]:
    """Every installed entry point with the function that imports it, in an order that does not depend on the path."""
    found: list[tuple[Plugin, Callable[[], Any]]] = []
    for entry in metadata.entry_points(group=GROUP):
        owner = entry.dist
        name = (owner.metadata["Name"] if owner else None) or "unknown distribution"
        plugin = Plugin(entry.name, Origin(name, (owner.version if owner else "") or "", entry.name))
        reason = _shut_out(plugin, disable, allow)
        if reason:
            plugin.state, plugin.reason = "disabled", reason
        found.append((plugin, entry.load))
    return sorted(found, key=lambda pair: (pair[0].origin.distribution, pair[0].name))


def _shut_out(plugin: Plugin, disable: Sequence[str], allow: Sequence[str] | None) -> str:
    """Why a plugin must not be imported; "" if it may."""
    variable = os.environ.get(VARIABLE, "").strip()
    listed = [part.strip() for part in variable.split(",") if part.strip()]
    if variable.lower() == "none":
        return f"{VARIABLE}=none"
    if listed and not any(plugin.answers_to(name) for name in listed):
        return f"not in {VARIABLE}={variable}"
    if allow is not None and not any(plugin.answers_to(name) for name in allow):
        return "not on the allow-list"
    return "disabled by the settings" if any(plugin.answers_to(name) for name in disable) else ""


# -- loading -----------------------------------------------------------------------------------------------------------
def load(manager: pluggy.PluginManager, plugin: Plugin, action: Callable[[], Any], disable: Sequence[str]) -> None:
    """Import one plugin, register its hooks and collect its classes; a failure is kept in `plugin`, never raised."""
    try:
        target = action()
        _register(manager, target, plugin)
        _collect(manager, target, plugin, disable)
    except (Exception, SystemExit) as error:
        plugin.state = "failed"
        plugin.reason = str(error) if isinstance(error, DeattribError) else describe(error, plugin.origin.distribution)
        if isinstance(error, ModuleNotFoundError) and error.name:
            plugin.lacks_extra = extra_of(error.name, plugin.origin.distribution) is not None
        plugin.items.clear()
        if manager.has_plugin(plugin.name):
            manager.unregister(name=plugin.name)


def _register(manager: pluggy.PluginManager, target: Any, plugin: Plugin) -> None:
    if isinstance(target, type) and issubclass(target, Scorer):
        raise PluginError(f"entry point names the class {target.__name__}: name the module that has the hook scorers().")
    try:
        manager.register(target, name=plugin.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        known = [name for name in vars(AttributionReward) if not name.startswith("_")]
        for caller in manager.get_hookcallers(target) or ():
            if not caller.has_spec():
                raise PluginError(f"has an unknown hook {caller.name!r}.{did_you_mean(caller.name, known)}") from error
        raise PluginError(f"has a hook that does not fit its spec: {' '.join(str(error).split())}") from error
    callers = {caller.name for caller in manager.get_hookcallers(target) or ()}
    if not callers:
        raise PluginError(f"{target!r} has no hook: mark one with @deattrib.hookimpl, such as scorers().")
    plugin.observes = tuple(sorted(callers - set(KINDS)))


def _collect(manager: pluggy.PluginManager, target: Any, plugin: Plugin, disable: Sequence[str]) -> None:
    for hook, kind in KINDS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.plugin is not target:
                continue
            if implementation.wrapper or implementation.hookwrapper:
                raise PluginError(f"wraps hook {hook}(): it must return the plugin's own classes, not change those of others.")
            returned = implementation.function()
            if isinstance(returned, list | tuple):
                plugin.claims += tuple(str(getattr(cls, "name", "")) for cls in returned)
            plugin.items += [_item(kind, cls, disable) for cls in classes_from(hook, returned)]


def _item(kind: str, cls: type[Any], disable: Sequence[str]) -> Item:
    if cls.name in disable:
        return Item(kind, cls, "disabled", "disabled by the settings")
    lacking = missing_extra(needs_of(cls))
    return Item(kind, cls, "failed", lacking) if lacking else Item(kind, cls)


def needs_of(cls: type[Any]) -> tuple[str, ...]:
    """What a class says it needs, such as "deattrib[trak]" or "identities"."""
    needs = getattr(cls, "needs", ())
    return (needs,) if isinstance(needs, str) else tuple(needs)


# -- checks over all plugins -------------------------------------------------------------------------------------------
def refuse_equal_entry_points(plugins: Sequence[Plugin]) -> None:
    """Raise where two distributions have an entry point of the same name."""
    seen: dict[str, Plugin] = {}
    for plugin in plugins:
        if plugin.state == "disabled":
            continue
        if plugin.name in seen:
            raise PluginError(
                f"Two distributions have the entry point {plugin.name!r} in group {GROUP!r}: {seen[plugin.name].origin} and "
                f"{plugin.origin}. Disable one distribution (plugins: {{disable: [...]}}), or uninstall one."
            )
        seen[plugin.name] = plugin


def refuse_equal_names(plugins: Sequence[Plugin]) -> None:
    """Raise where two plugins bring a class of the same kind and name."""
    seen: dict[tuple[str, str], Plugin] = {}
    for plugin in plugins:
        for item in plugin.items:
            key = (item.kind, item.cls.name)
            if item.state == "disabled":
                continue
            if key in seen:
                raise PluginError(
                    f"Two plugins bring the {item.kind} {item.cls.name!r}: {seen[key].origin} and {plugin.origin}. Disable "
                    f"one entry point or distribution (plugins: {{disable: [...]}}), or uninstall one."
                )
            seen[key] = plugin


def warn_of_unknown_names(plugins: Sequence[Plugin], setting: str, names: Sequence[str]) -> None:
    """A name that disables or allows nothing is a warning, not an error: settings are shared between machines."""
    known = {name for plugin in plugins for name in (plugin.name, plugin.origin.distribution, *plugin.claims)}
    for name in names:
        if name not in known and not any(plugin.answers_to(name) for plugin in plugins):
            text = f"plugins.{setting} names {name!r}, which is not installed.{did_you_mean(name, known)}"
            warnings.warn(text, stacklevel=3)


def refuse_missing(plugins: Sequence[Plugin], requirements: Sequence[str]) -> None:
    """Raise one error with every requirement that is not met."""
    problems = [problem for text in requirements for problem in _lacking(plugins, text)]
    if problems:
        raise PluginError("Required plugins are missing:" + "".join(f"\n  - {problem}" for problem in problems))


def _lacking(plugins: Sequence[Plugin], text: str) -> Iterator[str]:
    try:
        wanted = Requirement(text)
    except InvalidRequirement as error:
        yield f"{text!r} is not a requirement such as 'name>=1.2': {str(error).splitlines()[0]}"
        return
    matching = [plugin for plugin in plugins if plugin.answers_to(wanted.name)]
    if not matching:
        known = {name for plugin in plugins for name in (plugin.name, plugin.origin.distribution)}
        yield f"{text}: not installed.{did_you_mean(wanted.name, known)}"
    elif wanted.specifier and not wanted.specifier.contains(matching[0].origin.version, prereleases=True):
        yield f"{text}: {matching[0].origin.distribution} {matching[0].origin.version} is installed."
    else:
        # A whole distribution may lack optional extras; an entry point that is named may not.
        by_distribution = all(plugin.name != wanted.name for plugin in matching)
        for plugin in matching:
            lacking = [item.reason for item in plugin.items if item.state == "failed"]
            if plugin.state != "ready" and not (plugin.lacks_extra and by_distribution):
                yield f"{text}: entry point {plugin.name!r} is {plugin.state}: {plugin.reason}"
            elif lacking and not by_distribution:
                yield f"{text}: {lacking[0]}"
