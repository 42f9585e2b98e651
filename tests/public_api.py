"""The public surface as data: names with signatures, fields and methods; hooks; settings; commands with their options.

    python -m tests.public_api     # writes tests/api.json, the record that tests/test_api.py holds the code against

Run it on purpose, in the commit that changes the surface, and say in CHANGELOG.md what changed (docs/api.md: what may).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel
from typer.models import ArgumentInfo, OptionInfo

RECORD = Path(__file__).with_name("api.json")
MODULES = ("deattrib", "deattrib.testing", "deattrib.trl")


def signature(function: Any) -> str:
    """A signature as text, the same in every process: annotations as they are written, no addresses."""
    try:
        return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(function)))
    except (TypeError, ValueError):
        return "(...)"


def described(value: Any) -> dict[str, Any]:
    """One public name."""
    if not isinstance(value, type):
        return {"kind": "function", "signature": signature(value)} if callable(value) else {"kind": type(value).__name__}
    if issubclass(value, BaseModel):
        return {"kind": "settings", "fields": settings(value), "members": members(value)}
    if dataclasses.is_dataclass(value):
        fields = {field.name: f"{field.type}{default(field)}" for field in dataclasses.fields(value)}
        return {"kind": "dataclass", "fields": fields, "members": members(value)}
    return {"kind": "class", "signature": signature(value), "members": members(value)}


def settings(cls: type[BaseModel]) -> dict[str, str]:
    """Settings with types as they are written and defaults; what is in a section, `tree` has."""
    types = {name: kind for base in reversed(cls.__mro__) for name, kind in inspect.get_annotations(base).items()}
    found = {}
    for name, field in cls.model_fields.items():
        value = field.get_default(call_default_factory=True)
        shown = "..." if isinstance(value, BaseModel) else "required" if field.is_required() else repr(value)
        found[name] = f"{types[name]} = {shown}"
    return found


def tree(cls: type[BaseModel], path: str = "") -> dict[str, str]:
    """Every setting that a config may have, by its dotted name: `type = default`."""
    found = {}
    shown = settings(cls)
    for name, field in cls.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= tree(field.annotation, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = shown[name]
    return found


def parameters() -> dict[str, dict[str, str]]:
    """Settings of every scorer, method, metric and attack that comes with the library and has some, by `kind/name`."""
    from deattrib import PluginRegistry

    registry = PluginRegistry()
    shipped = [(entry["kind"], entry["name"]) for entry in registry.listing() if entry["distribution"] == "deattrib"]
    found = {f"{kind}/{name}": tree(getattr(registry, kind)(name).Params) for kind, name in shipped}
    return {name: fields for name, fields in found.items() if fields}


def commands() -> dict[str, dict[str, str]]:
    """Command -> its arguments (in capitals) and options, with defaults as they are written."""
    from deattrib.cli.main import app

    found = {}
    for entry in app.registered_commands:
        assert entry.callback is not None
        name = entry.name or entry.callback.__name__.replace("_", "-")
        hints = get_type_hints(entry.callback, include_extras=True)
        found[name] = {
            typed(parameter.name, hints[parameter.name].__metadata__[0]): (
                "required" if parameter.default is inspect.Parameter.empty else repr(parameter.default)
            )
            for parameter in inspect.signature(entry.callback).parameters.values()
            if hasattr(hints[parameter.name], "__metadata__")  # not the call itself (typer.Context), which nobody types
        }
    return found


def typed(name: str, info: ArgumentInfo | OptionInfo) -> str:
    """What a person types for a parameter: `--seed`, `--reward, -r`, or the argument's word."""
    if isinstance(info, ArgumentInfo):
        return info.metavar or name.upper()
    given = (info.default, *(info.param_decls or ()))  # with Annotated the first one lands in the default's place
    return ", ".join([word for word in given if isinstance(word, str)] or [f"--{name.replace('_', '-')}"])


def default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f" = {field.default!r}"
    return "" if field.default_factory is dataclasses.MISSING else " = ..."


def members(cls: type[Any]) -> dict[str, str]:
    """Public methods, properties and class attributes that come from this project, inherited ones included."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not base.__module__.startswith("deattrib"):
            continue
        for name, member in vars(base).items():
            if name.startswith("_") or name in ("model_config",):
                continue
            if isinstance(member, property | functools.cached_property):
                found[name] = "property"
            elif isinstance(member, classmethod | staticmethod):
                found[name] = f"{type(member).__name__} {signature(member.__func__)}"
            elif inspect.isfunction(member):
                found[name] = signature(member)
            elif isinstance(member, type):
                found[name] = "class"
            else:
                found[name] = "attribute"
    fields = {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    return {name: found[name] for name in sorted(set(found) - fields)}


def record() -> dict[str, Any]:
    """Everything that is promised."""
    from deattrib import AttributionReward, RunConfig, Scorer

    surface = {}
    for module in MODULES:
        loaded = importlib.import_module(module)
        surface[module] = {name: described(getattr(loaded, name)) for name in sorted(loaded.__all__)}
    hooks = {
        name: [parameter for parameter in inspect.signature(function).parameters if parameter != "self"]
        for name, function in vars(AttributionReward).items()
        if not name.startswith("_")
    }
    more = {"settings": tree(RunConfig), "params": parameters(), "commands": commands()}
    return {"interface": Scorer.api_version, "hooks": hooks, "names": surface, **more}


def written(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    RECORD.write_text(written(record()), encoding="utf-8")
    print(f"wrote {RECORD.name}")
