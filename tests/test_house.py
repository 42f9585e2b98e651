"""Rules of the house that no linter knows: short files that say what they are for, no door for foreign code, a whole API."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import deattrib
import deattrib.testing
import deattrib.trl

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "core").rglob("*.py"))
FILES = CORE + sorted((ROOT / "plugins").rglob("*.py"))
OTHERS = [path for folder in ("examples", "docs", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
LONGEST = 300  # lines of a file
LONGEST_FUNCTION = 60


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def imported(tree: ast.Module) -> set[str]:
    """Top packages that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def doors(tree: ast.Module) -> list[str]:
    """Where a module would run code that comes with data: pickles, unsafe torch.load, model code from the hub."""
    found = [f"imports {name}" for name in sorted(imported(tree) & {"pickle", "cPickle", "cloudpickle", "dill", "joblib"})]
    for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
        constants = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
        if ast.unparse(call.func) == "torch.load" and constants.get("weights_only") is not True:
            found.append(f"line {call.lineno}: torch.load without weights_only=True")
        if constants.get("trust_remote_code"):
            found.append(f"line {call.lineno}: trust_remote_code=True")
    for node in [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]:
        for key, value in zip(node.keys, node.values, strict=True):
            if (
                isinstance(key, ast.Constant)
                and key.value == "trust_remote_code"
                and isinstance(value, ast.Constant)
                and value.value
            ):
                found.append(f"line {node.lineno}: trust_remote_code: True")
    return found


def doubles_on_a_device(tree: ast.Module) -> list[str]:
    """Where a tensor is made float64 wherever it lies: devices of Apple have none."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    return [
        f"line {call.lineno}: {ast.unparse(call)}"
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr == "double"
        and not ast.unparse(call.func.value).endswith(".cpu()")
    ]


def long_functions(tree: ast.Module, most: int) -> list[str]:
    """Functions and methods of more lines than that, docstring included."""
    return [
        f"{node.name}: {length} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > most
    ]


def test_there_is_something_to_look_at() -> None:
    assert len(CORE) > 50 and len(FILES) > len(CORE)


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_a_file_is_short_says_what_it_is_for_and_opens_no_door(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= LONGEST
    assert long_functions(tree, LONGEST_FUNCTION) == []
    assert (ast.get_docstring(tree) or "").strip(), "no module docstring"
    assert doors(tree) == []
    assert doubles_on_a_device(tree) == []


def test_a_float64_on_a_device_is_seen() -> None:
    assert doubles_on_a_device(ast.parse("x.double() + y.cpu().double()")) == ["line 1: x.double()"]


def test_a_long_function_is_seen() -> None:
    tree = ast.parse("class A:\n    def f(self):\n        x = 1\n        return x\n\ndef g(): pass\n")
    assert long_functions(tree, 2) == ["f: 3 lines"] and long_functions(tree, 3) == []


def test_nothing_else_in_the_tree_opens_a_door() -> None:
    assert len(OTHERS) > 100
    assert {str(path): found for path in OTHERS if (found := doors(ast.parse(path.read_text(encoding="utf-8"))))} == {}


def test_everything_else_in_the_tree_is_as_short_and_says_what_it_is_for() -> None:
    found = {}
    for path in OTHERS:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        told = [f"{len(text.splitlines())} lines"] if len(text.splitlines()) > LONGEST else []
        told += long_functions(tree, LONGEST_FUNCTION)
        told += [] if (ast.get_docstring(tree) or "").strip() else ["no module docstring"]
        if told:
            found[str(path)] = told
    assert found == {}


@pytest.mark.parametrize("path", CORE, ids=names(CORE))
def test_core_does_not_know_the_plugins(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "deattrib_scorers" not in imported(ast.parse(text))
    assert not re.search(r"import_module\(\s*f?[\"']deattrib_scorers", text)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from pickle import loads",
        "import torch\ntorch.load('x', weights_only=False)",
        "import torch\ntorch.load('x')",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "options = {'trust_remote_code': True}",
    ],
)
def test_the_search_for_doors_finds_them(source: str) -> None:
    assert doors(ast.parse(source))


def test_asking_a_setting_is_not_a_door() -> None:
    assert doors(ast.parse("load('x', trust_remote_code=settings.trust_remote_code)\ntorch.load('x', weights_only=True)")) == []


def test_every_public_name_resolves_and_is_listed_once() -> None:
    assert len(set(deattrib.__all__)) == len(deattrib.__all__)
    assert [name for name in deattrib.__all__ if getattr(deattrib, name, None) is None] == []
    assert set(deattrib.__all__) <= set(dir(deattrib))


def test_the_house_that_is_drawn_is_the_house_that_stands() -> None:
    """Every folder of core is in the table of docs/architecture.md and on a floor of the import rules, and nothing else is."""
    import tomllib

    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"^\| `(\w+)/` \|", page, re.MULTILINE))
    there = {path.parent.name for path in (ROOT / "core" / "deattrib").glob("*/__init__.py")}
    assert drawn == there
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (floors,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    assert {name for floor in floors for name in floor.split(" | ")} == there | {"__main__", "yaml_file", "errors"}


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in (ROOT / "core" / "deattrib").glob("*/__init__.py")))
def test_a_room_imports_what_the_drawing_says(folder: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (column,) = re.findall(rf"^\| `{folder}/` \|.*\| ([^|]*) \|$", page, re.MULTILINE)
    drawn = {re.sub(r" \(.*\)", "", name).strip() for name in column.split(",")} - {"–"}
    found = set()
    for path in (ROOT / "core" / "deattrib" / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module if isinstance(node, ast.ImportFrom) and not node.level else None
            names = [module or ""] if not isinstance(node, ast.Import) else [alias.name for alias in node.names]
            found |= {name.split(".")[1] for name in names if name.startswith("deattrib.")}
    assert drawn == found - {folder, "errors", "yaml_file"}


def test_files_that_the_architecture_names_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[\w.-]+/)*_?[\w-]+\.(?:py|toml|md|yml))`", page))
    assert len(named) > 20
    parts = ("core", "plugins", "docs", "examples", "tests")  # not ROOT itself, which may hold an environment
    there = [path for part in parts for path in (ROOT / part).rglob("*.*")] + list(ROOT.glob("*.*"))
    ends = {path.relative_to(ROOT).as_posix() for path in there}
    missing = [name for name in named if not any(f"/{end}".endswith(f"/{name}") for end in ends)]
    assert missing == []


def shadows(text: str, module: str, homes: dict[str, str]) -> list[str]:
    """Classes and other names of types in a module that are called as something public from another module."""
    found = []
    for node in ast.parse(text).body:
        names = [node.name] if isinstance(node, ast.ClassDef) else []
        names += [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        found += [name for name in names if name[:1].isupper() and homes.get(name, module) != module]
    return found


def test_no_private_class_is_called_as_a_public_one() -> None:
    modules = (deattrib, deattrib.testing, deattrib.trl)
    homes = {
        name: getattr(module, name).__module__
        for module in modules
        for name in module.__all__
        if name[0].isupper() and name != "CHECKS"
    }
    assert homes["Rows"] == "deattrib.attribution.scorer" and homes["Cost"] == "deattrib.testing.bench"
    found = {}
    for path in FILES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts[1:])
        if names := shadows(path.read_text(encoding="utf-8"), module, homes):
            found[module] = names
    assert found == {}


def test_a_shadow_is_seen() -> None:
    homes = {"Rows": "deattrib.attribution.scorer", "Cost": "here"}
    assert shadows("class Rows: ...\nclass Cost: ...\nOther = 1\n", "here", homes) == ["Rows"]
    assert shadows("Rows = dict", "here", homes) == ["Rows"] and shadows("class Rows: ...", homes["Rows"], homes) == []
