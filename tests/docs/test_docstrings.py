"""Everything public says what it is: each name and member, arguments of functions and constructors, errors, shapes."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from typing import Any

import pytest
from pydantic import BaseModel
from torch import Tensor

import deattrib
import deattrib.testing
import deattrib.trl

NAMES = [
    pytest.param(getattr(module, name), id=f"{module.__name__}.{name}")
    for module in (deattrib, deattrib.testing, deattrib.trl)
    for name in module.__all__
    if name not in ("__version__", "hookimpl", "CHECKS")
]


ARRAY = r"\b(?:Tensor|Array|NDArray|ndarray)\b"


def raised(function: Any) -> set[str]:
    """Errors that the function itself raises by name, but for what must be overridden."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node.exc.func for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {ast.unparse(call) for call in calls} - {"NotImplementedError", "typer.Exit", "StopIteration", "AttributeError"}


def arrays(function: Any) -> list[str]:
    """Arguments, and "the result", that are tensors or arrays by their annotations."""
    annotations = {("the result" if name == "return" else name): str(kind) for name, kind in function.__annotations__.items()}
    return [name for name, kind in annotations.items() if re.search(ARRAY, kind)]


def unsaid(arguments: list[str], said: str) -> list[str]:
    """Arguments that a docstring does not name."""
    return [f"argument {name}" for name in arguments if not name.startswith("_") and not re.search(rf"\b{name}\b", said)]


def shaped(said: str) -> bool:
    """Whether a docstring gives a shape, [B, T] or [] (not the range [0, 1]), or says that there is none to give."""
    return bool(re.search(r"\[(?:[A-Za-z][^]]*)?\]|any shape", said))


def gaps(name: str, function: Any, about: str | None = None) -> list[str]:
    """What a docstring (the function's own, or `about`) lacks: errors by name, shapes where tensors come or go."""
    said = about if about is not None else inspect.getdoc(function) or ""
    if not said:
        return [f"{name} says nothing"]
    found = [f"{name} raises {error}" for error in sorted(raised(function)) if not re.search(rf"\b{error}\b", said)]
    return found + [f"{name}: shape of {', '.join(arrays(function))}" for _ in arrays(function)[:1] if not shaped(said)]


def function_gaps(function: Any) -> list[str]:
    """Of a public function: every argument has to be named, too, unless the docstring says whose arguments it takes."""
    said = inspect.getdoc(function) or ""
    arguments = [name for name in inspect.signature(function).parameters if name != "settings"]
    elsewhere = re.search(r"arguments of `\w+`", said)  # that function's docstring has them
    return gaps(function.__name__, inspect.unwrap(function)) + ([] if elsewhere else unsaid(arguments, said))


def method_gaps(name: str, function: Any) -> list[str]:
    """A method may leave an argument to its name and type; where it has a list of arguments, that is a whole one."""
    said = inspect.getdoc(function) or ""
    listed = list(inspect.signature(function).parameters)[1:] if "Args:" in said else []
    return gaps(name, function) + [f"{name}: {lack}" for lack in unsaid(listed, said)]


def class_gaps(cls: type[Any]) -> list[str]:
    """Of a public class: its members, and how one is made, which its own docstring tells or that of __init__."""
    found = [gap for name, function in own_members(cls) for gap in method_gaps(f"{cls.__name__}.{name}", function)]
    said = inspect.getdoc(cls) or ""
    if issubclass(cls, BaseModel):
        return found  # docs/settings.md has the fields
    if dataclasses.is_dataclass(cls):
        fields = [field.name for field in dataclasses.fields(cls)]
        found += [f"{cls.__name__}: {lack}" for lack in unsaid(fields, said)]
        tensors = any(re.search(ARRAY, str(field.type)) for field in dataclasses.fields(cls))
        found += [f"{cls.__name__}: shape of fields"] if tensors and not shaped(said) else []
    for name in ("__init__", "__post_init__"):
        function = vars(cls).get(name)
        if function is None or (name == "__init__" and dataclasses.is_dataclass(cls)):
            continue
        about = f"{said}\n{function.__doc__ or ''}"
        found += gaps(f"{cls.__name__}.{name}", function, about)
        found += [f"{cls.__name__}: {lack}" for lack in unsaid(list(inspect.signature(function).parameters)[1:], about)]
    return found


def own_members(cls: type[Any]) -> list[tuple[str, Any]]:
    """Public functions and properties that a class of ours defines itself."""
    found = []
    for name, member in vars(cls).items():
        function = member.fget if isinstance(member, property) else getattr(member, "func", member)
        function = getattr(function, "__func__", function)
        if not name.startswith(("_", "test_")) and inspect.isfunction(function):  # a test says by its name what it is for
            found.append((name, inspect.unwrap(function)))
    return found


@pytest.mark.parametrize("value", NAMES)
def test_a_public_name_is_documented(value: Any) -> None:
    assert len(inspect.getdoc(value) or "") > 15
    if inspect.isfunction(value):
        assert function_gaps(value) == []
    elif isinstance(value, type):
        assert class_gaps(value) == []


def silent() -> None:
    pass


def half(rows: Tensor) -> None:
    """Does something; whoever raises a hand is heard."""
    raise ValueError("no")


class Whole:
    """Takes `size`."""

    def __init__(self, size: int, depth: int) -> None:
        raise KeyError(f"{size} {depth}")

    def listed(self, first: int, second: int) -> None:
        """Does something.

        Args:
            first: one of two.
        """


@dataclasses.dataclass
class Fields:
    """Has `values`."""

    values: Tensor
    more: int

    def __post_init__(self) -> None:
        raise ValueError("no")


def test_gaps_are_seen() -> None:
    assert gaps("silent", silent) == ["silent says nothing"] and silent() is None
    assert function_gaps(half) == ["half raises ValueError", "half: shape of rows", "argument rows"]
    assert gaps("half", half, "Rows [B]. Raises ValueError now and then.") == []
    said = ["Whole.listed: argument second", "Whole.__init__ raises KeyError", "Whole: argument depth"]
    assert class_gaps(Whole) == said
    said = ["Fields: argument more", "Fields: shape of fields", "Fields.__post_init__ raises ValueError"]
    assert class_gaps(Fields) == said
