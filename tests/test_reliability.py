"""The fault table in docs/reliability.md names tests that exist, and every line of it names one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def table_lines() -> list[str]:
    """The lines of tables that have a column "test", without their heads."""
    lines: list[str] = []
    inside = False
    for line in PAGE.splitlines():
        if re.fullmatch(r"\| (fault|threat) \| what happens \| test \|", line):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("|---"):
            lines.append(line)
    return lines


def test_there_is_a_table() -> None:
    assert len(table_lines()) >= 50


@pytest.mark.parametrize("line", table_lines())
def test_every_fault_names_a_test_that_exists(line: str) -> None:
    named = NAMED.findall(line)
    assert len(named) == 1, line
    (path, name), *_ = named
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert found, f"{path} has no test {name}"
    slow = any("mark.slow" in ast.unparse(decorator) for decorator in found[0].decorator_list)
    assert slow == ("(*slow*)" in line)
