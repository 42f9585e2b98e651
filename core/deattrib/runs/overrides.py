"""`--set a.b=c`: one setting changed on the command line.

The part before the first `=` is the dotted path, the rest the value. Values that begin with `[`, `{` or a quote are
YAML; anything else is one plain YAML value (`1e-4` a number, `true` a boolean, `null` or nothing at all null) or else the text
as it stands, so that `Question: why? #1` needs no quoting against YAML. A number in the path picks from a list.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from deattrib.errors import ConfigError, did_you_mean
from deattrib.yaml_file import parse_value, resolve_scalar

_DEEPEST = 64


def parse_override(item: str, *, source: str | None = None) -> tuple[tuple[str, ...], Any]:
    """`"ppo.steps=3"` becomes `(("ppo", "steps"), 3)`. `source`: what messages call it, by default `--set` and the item.

    Raises:
        ConfigError: no `=`, an empty name, or a value that is not YAML; the message has the item.
    """
    path, equals, text = item.partition("=")
    keys = tuple(part.strip() for part in path.split("."))
    source = source or f"--set {item!r}"
    if not equals:
        raise ConfigError(f"{source}: there is no '='; expected NAME.NAME=VALUE, for example --set ppo.steps=100.")
    if not all(keys) or len(keys) > _DEEPEST:
        raise ConfigError(f"{source}: {path!r} is not a dotted name; expected NAME.NAME=VALUE.")
    text = text.strip()
    return keys, parse_value(text, source=source) if text[:1] in ("[", "{", '"', "'") else resolve_scalar(text, source=source)


def apply_overrides(settings: Mapping[str, Any], items: Sequence[str]) -> dict[str, Any]:
    """A copy of `settings` with each `NAME.NAME=VALUE` of `items` set, in order: the last one wins.

    A value replaces what was there, a whole section included; sections that are missing (or null) are made.

    Raises:
        ConfigError: an item cannot be read, or its path leads through a value that is no section; names the item.
    """
    result: dict[str, Any] = copy.deepcopy(dict(settings))
    for item in items:
        keys, value = parse_override(item)
        _assign(result, keys, value, item)
    return result


def _assign(settings: dict[str, Any], keys: tuple[str, ...], value: Any, item: str) -> None:
    here: Any = settings
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(here, dict):
            if last:
                here[key] = value
            elif here.get(key) is None:
                here[key] = {}
            here = here[key]
        elif isinstance(here, list):
            index = _index(here, key, keys[:depth], item)
            if last:
                here[index] = value
            elif here[index] is None:
                here[index] = {}
            here = here[index]
        else:
            above = ".".join(keys[:depth])
            raise ConfigError(
                f"--set {item!r}: {above!r} is {here!r}, which has no settings of its own; "
                f"set it as a whole, for example --set '{above}={{{key}: ...}}'."
            )


def _index(items: list[Any], key: str, above: tuple[str, ...], item: str) -> int:
    if key.isdecimal() and key.isascii() and len(key) < 9 and int(key) < len(items):
        return int(key)
    hint = did_you_mean(key, [str(index) for index in range(len(items))])
    raise ConfigError(f"--set {item!r}: {'.'.join(above)!r} is a list of {len(items)}; {key!r} is not a place in it.{hint}")
