"""Settings that had another name: for one minor version the old one works and warns (docs/api.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from deattrib.errors import ConfigError, deprecated

RENAMED: dict[str, tuple[str, str]] = {}
"""Old dotted name of a setting or section -> the present one, and the version in which the old one goes."""


def current(model_class: type[BaseModel], data: Mapping[str, Any], *, source: str) -> Mapping[str, Any]:
    """`data` with every setting of `model_class` under its present name; each old one warns.

    Raises:
        ConfigError: a setting is given under both names.
    """
    for old, (new, gone_in) in RENAMED.items():
        was, now = tuple(old.split(".")), tuple(new.split("."))
        if not _names(model_class, now) or not _given(data, was) or not isinstance(_at(data, now[:-1]) or {}, Mapping):
            continue
        if _given(data, now):
            raise ConfigError(f"{source}: `{old}` is the old name of `{new}`, and both are given: remove `{old}`.")
        deprecated(f"the setting `{old}`", f"`{new}`", gone_in)
        data = _with(_without(data, was), now, _at(data, was))
    return data


def _names(model_class: type[BaseModel], path: tuple[str, ...]) -> bool:
    """Whether the class has such a setting; other classes than a run's are validated, too."""
    kind: Any = model_class
    for key in path:
        fields = getattr(kind, "model_fields", {})
        if key not in fields:
            return False
        kind = fields[key].annotation
    return True


def _at(data: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _given(data: Any, path: tuple[str, ...]) -> bool:
    above = _at(data, path[:-1])
    return isinstance(above, Mapping) and path[-1] in above


def _without(data: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    if len(path) == 1:
        return {key: value for key, value in data.items() if key != path[0]}
    return {**data, path[0]: _without(data[path[0]], path[1:])}


def _with(data: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    return {**data, path[0]: value if len(path) == 1 else _with(data.get(path[0]) or {}, path[1:], value)}
