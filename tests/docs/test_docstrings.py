"""Everything public says what it is: each name, method and property, each argument of a function, and what is raised."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import Any

import pytest

import deattrib
import deattrib.testing
import deattrib.trl

NAMES = [
    pytest.param(getattr(module, name), id=f"{module.__name__}.{name}")
    for module in (deattrib, deattrib.testing, deattrib.trl)
    for name in module.__all__
    if name not in ("__version__", "hookimpl", "CHECKS")
]


def raised(function: Any) -> set[str]:
    """Errors that the function itself raises by name, but for what must be overridden."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node.exc.func for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {ast.unparse(call) for call in calls} - {"NotImplementedError", "typer.Exit", "StopIteration", "AttributeError"}


def gaps(name: str, function: Any, about: str | None = None) -> list[str]:
    """What the docstring of one function lacks. Methods may leave an argument to its name and type, functions may not."""
    said = about if about is not None else inspect.getdoc(function) or ""
    if not said:
        return [f"{name} says nothing"]
    return [f"{name} raises {error}" for error in sorted(raised(function)) if error not in said and "raise" not in said.lower()]


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
        said = inspect.getdoc(value) or ""
        arguments = [name for name in inspect.signature(value).parameters if not name.startswith("_") and name != "settings"]
        elsewhere = re.search(r"arguments of `\w+`", said)  # that function's docstring has them
        lacking = [f"argument {name}" for name in arguments if not elsewhere and not re.search(rf"\b{name}\b", said)]
        assert gaps(value.__name__, inspect.unwrap(value)) + lacking == []
    elif isinstance(value, type):
        assert [gap for name, function in own_members(value) for gap in gaps(f"{value.__name__}.{name}", function)] == []


def test_gaps_are_seen() -> None:
    def silent() -> None:
        pass

    def half() -> None:
        """Does something."""
        raise ValueError("no")

    assert gaps("silent", silent) == ["silent says nothing"] and gaps("half", half) == ["half raises ValueError"]
    assert gaps("half", half, "Raises ValueError now and then.") == []
