"""PluginRegistry: choose, make, notify and list what plugins bring.

One plugin that fails is kept with its reason and stops nobody until somebody asks for it or requires it. Where no
sensible choice exists (one name from two distributions) building the registry fails. Entry points that are disabled or
not on the allow-list are not even imported.

The environment variable ``DEATTRIB_PLUGINS`` narrows what is installed: "none" loads no entry point, "a,b" only these.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pluggy

from deattrib.attribution import discovery
from deattrib.attribution.discovery import GROUP, Item, Plugin, needs_of
from deattrib.attribution.hookspecs import PROJECT, AttributionReward
from deattrib.attribution.loading import OPTIONAL_METHODS, Origin, check_params, describe, load_reference, origin_of_module
from deattrib.attribution.scorer import Scorer
from deattrib.errors import ConfigError, DeattribError, PluginError, did_you_mean


class PluginRegistry:
    """The plugins of this environment, as far as the settings let them in.

    Args:
        disable: entry points, distributions (neither is imported) or scorers by name.
        require: requirements such as "name>=1.2", name being a distribution or an entry point; all that is missing is
            reported in one error. A distribution may lack optional extras; an entry point that is named may not.
        allow: the only entry points or distributions that may be imported; None: all.
        entry_points: False ignores everything installed.

    Raises:
        PluginError: two distributions bring the same name, or a requirement is not met.
    """

    def __init__(
        self,
        *,
        disable: Iterable[str] = (),
        require: Iterable[str] = (),
        allow: Iterable[str] | None = None,
        entry_points: bool = True,
    ) -> None:
        self._disable = _names(disable, "disable")
        allowed = None if allow is None else _names(allow, "allow")
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(AttributionReward)
        self._origins: dict[type[Any], Origin] = {}
        found = discovery.discover(self._disable, allowed) if entry_points else []
        self._plugins: list[Plugin] = [plugin for plugin, _ in found]
        discovery.refuse_equal_entry_points(self._plugins)
        for plugin, action in found:
            if plugin.state == "ready":
                discovery.load(self._manager, plugin, action, self._disable)
                self._origins.update((item.cls, plugin.origin) for item in plugin.items)
        discovery.refuse_equal_names(self._plugins)
        discovery.warn_of_unknown_names(self._plugins, "disable", self._disable)
        discovery.warn_of_unknown_names(self._plugins, "allow", allowed or ())
        discovery.refuse_missing(self._plugins, _names(require, "require"))

    def register(self, plugin: Any, *, name: str) -> None:
        """Add a plugin object or module that is not installed; raises PluginError if it cannot be used."""
        record = Plugin(name, Origin("this process", "", name))
        discovery.refuse_equal_entry_points([*self._plugins, record])
        discovery.load(self._manager, record, lambda: plugin, self._disable)
        if record.state == "failed":
            raise PluginError(f"Plugin {name!r} ({record.origin}) cannot be used: {record.reason}")
        try:
            discovery.refuse_equal_names([*self._plugins, record])
        except PluginError:
            self._manager.unregister(name=name)
            raise
        self._plugins.append(record)
        self._origins.update((item.cls, record.origin) for item in record.items)

    # -- choosing ----------------------------------------------------------------------------------------------------
    def scorer(self, name: str) -> type[Scorer]:
        """The scorer class called `name`, or named by ``file.py:Class`` or ``module:Class``.

        Raises:
            PluginError: unknown (with close names), disabled, or of a plugin that failed (with its reason).
        """
        found: type[Scorer] = self._named("scorer", name)
        return found

    def metric(self, name: str) -> type[Any]:
        """The metric class called `name`, or named by ``file.py:Class`` or ``module:Class``; errors as for `scorer`."""
        return self._named("metric", name)

    def method(self, name: str) -> type[Any]:
        """The method class called `name`, or named by ``file.py:Class`` or ``module:Class``; errors as for `scorer`."""
        return self._named("method", name)

    def attack(self, name: str) -> type[Any]:
        """The attack class called `name`, or named by ``file.py:Class`` or ``module:Class``; errors as for `scorer`."""
        return self._named("attack", name)

    def _named(self, kind: str, name: str) -> type[Any]:
        if ":" not in name:
            return self._choose(kind, name)
        cls, origin = load_reference(name, kind)
        self._origins.setdefault(cls, origin)
        return cls

    def names(self, kind: str = "scorer") -> list[str]:
        """Names that can be asked for, sorted."""
        return sorted(item.cls.name for plugin in self._plugins for item in plugin.items if _usable(item, kind))

    def _choose(self, kind: str, name: str) -> type[Any]:
        shut: list[str] = []
        for plugin in self._plugins:
            for item in plugin.items:
                if item.kind == kind and item.cls.name == name:
                    if item.state == "ready":
                        return item.cls
                    shut.append(f"{kind.capitalize()} {name!r} ({plugin.origin}) is {item.state}: {item.reason}")
            if plugin.state != "ready" and name in (plugin.name, *plugin.claims):
                shut.append(f"{kind.capitalize()} {name!r} cannot be used: plugin {plugin.name!r} ({plugin.origin}) is "
                            f"{plugin.state}: {plugin.reason}")  # fmt: skip
        if shut:
            raise PluginError(" ".join(shut))
        raise PluginError(f"There is no {kind} {name!r}.{did_you_mean(name, self.names(kind))}{self._more_hints(name)}")

    def _more_hints(self, name: str) -> str:
        if name.endswith(".py"):
            return f" For a class in a file write {name}:ClassName."
        failed = [plugin.name for plugin in self._plugins if plugin.state == "failed"]
        if failed:
            return f" Plugins that failed to load: {', '.join(failed)}; `deattrib plugins` says why."
        if not self._plugins:
            return f" Nothing installed has entry points of group {GROUP!r}; `pip install .` brings the built-in ones."
        return ""

    def make(self, spec: str | Mapping[str, Any] | type[Scorer] | Scorer) -> Scorer:
        """A scorer for a run.

        Args:
            spec: what `scorer` takes, or a scorer class, or a mapping {"name": one of these, **settings}; an instance
                passes through.

        Raises:
            PluginError: see `scorer`; also if the class cannot be made into an instance.
            ConfigError: a setting is unknown or has a wrong value; names scorer, setting, expected and got.
        """
        if isinstance(spec, Scorer):
            return spec
        values: dict[str, Any] = {}
        if isinstance(spec, Mapping):
            values = dict(spec)
            spec = values.pop("name", None)
            if not isinstance(spec, str | type):
                raise ConfigError(f"A scorer is a name or a mapping with a `name`, such as {{name: classifier}}; got {spec!r}.")
        cls = self.scorer(spec) if isinstance(spec, str) else spec
        params = check_params(cls, values, self.origin(cls))
        with _active(self):
            try:
                return cls(params)
            except DeattribError:
                raise
            except (Exception, SystemExit) as error:
                raise PluginError(f"Scorer {cls.name!r} ({self.origin(cls)}) cannot be made: {describe(error)}") from error

    def origin(self, cls: type[Any]) -> Origin:
        """Distribution, version and entry point that a class comes from."""
        if cls not in self._origins:
            self._origins[cls] = origin_of_module(sys.modules.get(cls.__module__))
        return self._origins[cls]

    @property
    def versions(self) -> dict[str, str]:
        """Distribution -> version of everything that is loaded, for the manifest of a run."""
        return {plugin.origin.distribution: plugin.origin.version for plugin in self._plugins if plugin.state == "ready"}

    # -- observing ---------------------------------------------------------------------------------------------------
    @property
    def hook(self) -> Any:
        """The hooks themselves, as pluggy calls them: the first exception ends the call. See `notify`."""
        return self._manager.hook

    def notify(self, hook: str, *, strict: bool = False, **arguments: Any) -> list[str]:
        """Call an observer hook of every plugin; one that raises does not keep the others from being called.

        Returns:
            one message per plugin that raised, naming it; with `strict` the first is raised as PluginError instead.
        """
        messages: list[str] = []
        for plugin in self._plugins:
            target = self._manager.get_plugin(plugin.name) if plugin.state == "ready" else None
            if target is None or hook not in plugin.observes:
                continue
            others = self._manager.get_plugins() - {target}
            try:
                self._manager.subset_hook_caller(hook, others)(**arguments)
            except (Exception, SystemExit) as error:
                messages.append(f"Plugin {plugin.name!r} ({plugin.origin}) failed in {hook}(): {describe(error)}")
                if strict:
                    raise PluginError(messages[-1]) from error
        return messages

    # -- listing -----------------------------------------------------------------------------------------------------
    def listing(self) -> list[dict[str, Any]]:
        """One plain mapping per class, and one per plugin that brings none; what ``deattrib plugins --json`` prints.

        Keys: name, kind (scorer, metric, method, attack, observer, or plugin if it could not be loaded), fidelity, owner_free
        (None where it is no scorer; settings may change it), overrides, needs, distribution, version, entry_point, state
        (ready, disabled, failed), reason, summary.
        """
        rows: list[dict[str, Any]] = []
        for plugin in self._plugins:
            base = {"distribution": plugin.origin.distribution, "version": plugin.origin.version, "entry_point": plugin.name}
            for item in plugin.items:
                state = {"state": item.state, "reason": item.reason, "summary": _summary(item.cls)}
                rows.append({"name": item.cls.name, "kind": item.kind, **_facts(item), **base, **state})
            if not plugin.items:
                kind = "observer" if plugin.state == "ready" else "plugin"
                facts = {"fidelity": None, "owner_free": None, "overrides": list(plugin.observes), "needs": []}
                state = {"state": plugin.state, "reason": plugin.reason, "summary": ""}
                rows.append({"name": plugin.name, "kind": kind, **facts, **base, **state})
        return sorted(rows, key=lambda row: (row["kind"] != "scorer", row["kind"], row["name"]))


def make_scorer(spec: str | Mapping[str, Any]) -> Scorer:
    """For scorers that wrap another one: make it from the registry that is making this one (else from a new one).

    `spec` and errors are those of `PluginRegistry.make`.
    """
    return (_ACTIVE.get() or PluginRegistry()).make(spec)


_ACTIVE: ContextVar[PluginRegistry | None] = ContextVar("registry", default=None)


@contextmanager
def _active(registry: PluginRegistry) -> Iterator[None]:
    token = _ACTIVE.set(registry)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def _names(values: Iterable[str], setting: str) -> tuple[str, ...]:
    if isinstance(values, str):
        raise ConfigError(f"plugins.{setting} is {values!r}: expected a list, such as [{values}].")
    return tuple(values)


def _usable(item: Item, kind: str) -> bool:
    return item.kind == kind and item.state == "ready"


def _facts(item: Item) -> dict[str, Any]:
    scorer = item.kind == "scorer"
    return {
        "fidelity": getattr(item.cls, "fidelity", None),
        "owner_free": bool(item.cls.owner_free) if scorer else None,
        "overrides": [name for name in OPTIONAL_METHODS if item.cls.overrides(name)] if scorer else [],
        "needs": list(needs_of(item.cls)),
    }


def _summary(cls: type[Any]) -> str:
    return ((cls.__dict__.get("__doc__") or "").strip().splitlines() or [""])[0].strip()
