"""How a command line names a scorer, method, metric or attack: a name, with settings after colons."""

from __future__ import annotations

import re
from typing import Any


def split_specs(text: str) -> list[str]:
    """Names at commas outside brackets; each once, in order."""
    return list(dict.fromkeys(part.strip() for part in re.split(r",(?![^\[]*\])", text) if part.strip()))


def parse_spec(text: str, *, option: str = "--scorers", kind: str = "a scorer") -> str | dict[str, Any]:
    """'name', or 'name:key=value:key=value' as a mapping; `file.py:Class` stays one name, and a value may hold colons.

    Raises ConfigError.
    """
    from deattrib.errors import ConfigError
    from deattrib.runs.overrides import parse_override

    name, *settings = re.split(r":(?=[A-Za-z_][\w.]*=)", text)
    spec: dict[str, Any] = {"name": name}
    for part in settings:
        keys, value = parse_override(part, source=f"{option} {text!r}")
        if len(keys) != 1 or keys[0] == "name":
            raise ConfigError(f"{option} {text!r}: {part!r} is no setting of {kind}; expected name:key=value.")
        spec[keys[0]] = value
    return spec if settings else name


def optional_spec(text: str | None, *, option: str, kind: str = "a scorer") -> str | dict[str, Any] | None:
    """The same for an option that may be left out."""
    return None if text is None else parse_spec(text, option=option, kind=kind)
