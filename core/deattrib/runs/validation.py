"""From a dict to a settings class, with every problem at once and in words.

pydantic finds the problems; its messages name its own union branches, stop at "Extra inputs are not permitted" and show
the alternatives of a union as so many separate errors. Here each problem is one line: dotted path, what came, what was
expected, and for an unknown setting the sibling that is meant or the section that it belongs in.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from deattrib.errors import ConfigError, did_you_mean
from deattrib.runs.renamed import current

Settings = TypeVar("Settings", bound=BaseModel)

_LONGEST_VALUE = 80


@dataclass(frozen=True, slots=True)
class _Problem:
    """One error of pydantic's, with the labels of union branches taken out of its path."""

    path: tuple[str | int, ...]
    branches: tuple[tuple[tuple[str | int, ...], str], ...]
    """For each union on the way: where it is, and the branch that complains."""
    models: tuple[type[BaseModel], ...]
    """The settings classes that the last name was looked for in."""
    kind: str
    message: str
    value: object


def validate(model_class: type[Settings], data: Mapping[str, Any], *, source: str) -> Settings:
    """`data` as an instance of `model_class`.

    Args:
        model_class: the settings class; `extra="forbid"` there is what makes misspelt names errors.
        data: nested dicts, as `parse_yaml` and `apply_overrides` give them.
        source: where the settings come from (a file's name), the first word of the message.

    Raises:
        ConfigError: lists every problem, one line each; or names a setting that is given under its old name too.
    """
    data = current(model_class, data, source=source)
    try:
        truths = list(_truths(model_class, data))
        settings = model_class.model_validate(data)
        if not truths:
            return settings
        lines = truths
    except ValidationError as error:
        raw = error.errors(include_url=False)
        problems = _choose_branches([_locate(model_class, data, dict(item)) for item in raw])
        lines = list(dict.fromkeys([*truths, *(_describe(model_class, problem) for problem in problems)]))
    except RecursionError as error:
        raise ConfigError(f"{source}: the settings are nested too deep, or contain themselves.") from error
    count = "one setting cannot be used" if len(lines) == 1 else f"{len(lines)} settings cannot be used"
    raise ConfigError("\n  ".join([f"{source}: {count}:", *lines]))


def _truths(model_class: type[BaseModel], data: object, path: str = "") -> Iterator[str]:
    """A line for each `true` or `false` where a number belongs; pydantic takes them for 1 and 0."""
    for name, field in model_class.model_fields.items():
        value = data.get(name) if isinstance(data, Mapping) else None
        members = list(_members(field.annotation))
        if isinstance(value, bool) and bool not in members and (int in members or float in members):
            yield f"{path}{name}: got {value}, expected a number."
        for member in members:
            if isinstance(member, type) and issubclass(member, BaseModel):
                yield from _truths(member, value, f"{path}{name}.")


def _locate(model_class: type[BaseModel], data: object, raw: Mapping[str, Any]) -> _Problem:
    """Walks the location along classes and data together; only so can a branch label be told from a name."""
    kinds: list[Any] = [model_class]
    value: object = data
    path: list[str | int] = []
    branches: list[tuple[tuple[str | int, ...], str]] = []
    models: tuple[type[BaseModel], ...] = (model_class,)
    location: tuple[str | int, ...] = raw["loc"]
    for index, part in enumerate(location):
        last = index == len(location) - 1
        members = [member for kind in kinds for member in _members(kind)]
        named = [found for member in members if (found := _child(member, part)) is not None]
        absent = last and raw["type"] in ("missing", "extra_forbidden")
        in_union = len(members) > 1
        if not absent and in_union and isinstance(part, str):
            branches.append((tuple(path), part))
            kinds = [member for member in members if part in _labels(member)] or members
            if len(kinds) == len(members) > 1 and _child_value(value, part) is not _NOTHING:  # no label: a name after all
                branches.pop()
                path.append(part)
                kinds, value = named, _child_value(value, part)
            continue
        if part == "[key]":
            continue
        models = tuple(member for member in members if isinstance(member, type) and issubclass(member, BaseModel))
        if not absent and not named and _child_value(value, part) is _NOTHING and isinstance(part, str):
            branches.append((tuple(path), part))  # a label where the class says nothing about a union
            continue
        path.append(part)
        kinds, value = named, _child_value(value, part)
    return _Problem(tuple(path), tuple(branches), models, raw["type"], _message(raw), raw.get("input"))


def _choose_branches(problems: Sequence[_Problem]) -> list[_Problem]:
    """Of each union only the branch that the value was meant for, or one line with all that would have been accepted."""
    unions = {where for problem in problems for where, _ in problem.branches}
    for where in sorted(unions, key=len):
        branches: dict[tuple[str, ...], list[_Problem]] = {}
        for problem in problems:
            labels = tuple(label for place, label in problem.branches if place == where)  # several: a union in a union
            if labels:
                branches.setdefault(labels, []).append(problem)
        inside = {label: found for label, found in branches.items() if all(len(item.path) > len(where) for item in found)}
        if inside:  # the branch of the right shape with the fewest complaints
            best = min(inside, key=lambda label: sum(_distance(item) for item in inside[label]))
            dropped = [item for label, found in branches.items() if label != best for item in found]
            problems = [problem for problem in problems if not any(problem is item for item in dropped)]
        elif branches:  # else a wider union has dropped them all
            problems = _merge([item for found in branches.values() for item in found], problems)
    return list(problems)


def _distance(problem: _Problem) -> float:
    """How much this problem speaks against the branch that it comes from: a misspelling of one of its names, little."""
    if problem.kind != "extra_forbidden":
        return 1.0
    names = {name for model in problem.models for name in _names(model)}
    return 0.5 if "Did you mean" in did_you_mean(str(problem.path[-1]), names) else 2.0


def _merge(same_place: Sequence[_Problem], problems: Sequence[_Problem]) -> list[_Problem]:
    first = same_place[0]
    message = " or ".join(dict.fromkeys(item.message.removeprefix("expected ") for item in same_place))
    merged = _Problem(first.path, (), first.models, first.kind, f"expected {message}", first.value)
    result = [merged if problem is first else problem for problem in problems]
    return [problem for problem in result if not any(problem is item for item in same_place)]


def _describe(root: type[BaseModel], problem: _Problem) -> str:
    path = ".".join(str(part) for part in problem.path)
    name = str(problem.path[-1]) if problem.path else ""
    if problem.kind == "extra_forbidden":
        fields = {field for model in problem.models for field in _names(model)}
        elsewhere = [place for place in _places(root, name) if place != path]
        hint = did_you_mean(name, fields)
        if elsewhere and "Did you mean" not in hint:
            hint = " It belongs in " + " or ".join(repr(place) for place in elsewhere[:3]) + "."
        return f"{path or '.'}: there is no such setting (given: {_shown(problem.value)}).{hint}"
    if problem.kind == "missing":
        return f"{path or '.'}: missing; {_wanted(problem, name)}."
    return f"{path or '(the settings as a whole)'}: got {_shown(problem.value)}, {problem.message}."


def _wanted(problem: _Problem, name: str) -> str:
    for model in problem.models:
        field = model.model_fields.get(name)
        if field is not None:
            kind = getattr(field.annotation, "__name__", None) or str(field.annotation)
            if isinstance(field.annotation, (types.UnionType, types.GenericAlias)) or typing.get_origin(field.annotation):
                kind = str(field.annotation).replace("typing.", "")
            words = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}
            described = f" ({field.description.rstrip('.')})" if field.description else ""
            return f"expected {words.get(kind, kind)}{described}"
    return "expected a value"


def _message(raw: Mapping[str, Any]) -> str:
    text = str(raw["msg"]).rstrip(".")
    if raw["type"] in ("value_error", "assertion_error"):
        cause = raw.get("ctx", {}).get("error")
        return "but " + (str(cause).rstrip(".") or text)
    if raw["type"] in ("model_type", "dataclass_type", "dict_type", "model_attributes_type"):
        return "expected a section with settings of its own"
    if raw["type"] == "union_tag_invalid":
        return f"expected {raw['ctx']['discriminator']} to be one of {raw['ctx']['expected_tags']}"
    if raw["type"] == "union_tag_not_found":
        return f"expected {raw['ctx']['discriminator']} to say which kind it is"
    if raw["type"] == "string_type":
        return "expected text" + (" (in quotes)" if isinstance(raw.get("input"), (bool, int, float)) else "")
    for start in ("Input should be ", "Value should be "):
        if text.startswith(start):
            wanted = text.removeprefix(start).split(", unable to parse")[0]
            return "expected " + ("a value " if wanted.startswith(("greater", "less")) else "") + wanted
    return text[:1].lower() + text[1:]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


_NOTHING = object()


def _child_value(value: object, part: str | int) -> object:
    if isinstance(value, Mapping):
        return value.get(part, _NOTHING)
    if isinstance(value, (list, tuple)) and isinstance(part, int) and -len(value) <= part < len(value):
        return value[part]
    return _NOTHING


def _child(kind: Any, part: str | int) -> Any | None:
    """The annotation of what `part` names inside the annotation `kind`; None where there is none."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            if part in (name, field.alias, field.validation_alias):
                return field.annotation
        return None
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if not isinstance(origin, type) or not arguments:
        return None
    if issubclass(origin, Mapping):
        return arguments[-1]
    if issubclass(origin, tuple) and isinstance(part, int) and Ellipsis not in arguments:
        return arguments[part] if part < len(arguments) else None
    if issubclass(origin, (Sequence, set, frozenset)) and isinstance(part, int):
        return arguments[0]
    return None


def _members(kind: Any) -> Iterator[Any]:
    """The alternatives of an annotation without None; the annotation itself where it has none."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        yield from _members(typing.get_args(kind)[0])
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(kind):
            if member is not type(None):
                yield from _members(member)
    else:
        yield kind


def _labels(member: Any) -> set[str]:
    """The labels that pydantic gives this member of a union: its name, its generic form, its discriminator's values."""
    labels = {str(member).replace("typing.", "")}
    if typing.get_origin(member) is None and isinstance(member, type):
        labels.add(member.__name__)
    origin, arguments = typing.get_origin(member), typing.get_args(member)
    if isinstance(origin, type):
        inner = ",".join(str(getattr(argument, "__name__", argument)) for argument in arguments)
        labels.add(f"{origin.__name__}[{inner}]")
    if isinstance(member, type) and issubclass(member, BaseModel):
        for field in member.model_fields.values():
            if typing.get_origin(field.annotation) is typing.Literal:
                labels |= {str(value) for value in typing.get_args(field.annotation)}
    return labels


def _names(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name


def _places(model: type[BaseModel], name: str, above: str = "", depth: int = 0) -> Iterator[str]:
    """Dotted paths of the settings called `name` in `model` and its sections."""
    for key, field in model.model_fields.items():
        path = f"{above}{field.alias or key}"
        if name in (key, field.alias):
            yield path
        for member in _members(field.annotation):
            if isinstance(member, type) and issubclass(member, BaseModel) and depth < 6:
                yield from _places(member, name, path + ".", depth + 1)
