"""Nothing is undocumented: hooks and their arguments, settings of the run and of every plugin, commands and their options.

The reference pages are made from the code; what is held here is that they are up to date, and that the code says something.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import re
import tomllib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, get_type_hints

import pytest
from pydantic import BaseModel
from tests.docs.fences import BLOCKS, DOCS, ROOT

import deattrib
from deattrib import AttributionReward, PluginRegistry, RunConfig, build_config
from deattrib.cli import show
from deattrib.cli.main import app
from deattrib.compare.table import read_csv
from deattrib.report.labels import LABELS


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = load("generate")
PAGES: dict[str, str] = GENERATE.pages()
HOOKS = {name: function for name, function in vars(AttributionReward).items() if not name.startswith("_")}
COMMANDS = {
    entry.name or entry.callback.__name__.replace("_", "-"): entry.callback
    for entry in app.registered_commands
    if entry.callback
}
LISTING = [entry for entry in PluginRegistry().listing() if entry["distribution"] == "deattrib"]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name], "run `make docs`"


@pytest.mark.parametrize("name", [name for name in deattrib.__all__ if name != "__version__"])
def test_a_public_name_has_its_signature_and_what_it_can_do(name: str) -> None:
    (part,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGES["python.md"], re.M | re.S)
    value = getattr(deattrib, name)
    lines = (inspect.getdoc(value) or "").splitlines()
    assert lines[0] in part.replace("\\", "") and " object at " not in part and " at 0x" not in part
    if inspect.isfunction(value) or dataclasses.is_dataclass(value):
        for argument in inspect.signature(value).parameters:
            assert re.search(rf"^(?:    |{name}\(.*){argument}: ", part, re.M), argument
    for method in [
        key for key, member in getattr(value, "__dict__", {}).items() if inspect.isfunction(member) and key[0] != "_"
    ]:
        assert f"\n- `{method}(" in part, method


def test_a_docstring_becomes_lists() -> None:
    about = "One\ntwo `a < b` < c.\n\nArgs:\n    x, y: where\n        it is.\n    *rest: more.\n\n"
    about += "Returns:\n    [B]: a *sum*\n    of: parts.\n\nEnd."
    assert "\n".join(GENERATE.python_names.body(about)).split("\n") == [
        "One", "two `a < b` \\< c.", "", "**Args**", "", "- `x, y`: where it is.", "- `*rest`: more.", "", "",
        "**Returns**", "", "- [B]: a \\*sum\\* of: parts.", "", "End.", "",
    ]  # fmt: skip


def test_a_signature_is_as_it_is_written() -> None:
    def some(self: Any, one: int, *, two: str = "a", three: Any = object(), **more: float) -> None: ...

    made = GENERATE.python_names.signature("some", some, method=True)
    assert made == "some(one: int, *, two: str = 'a', three: Any = ..., **more: float)"


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_a_hook_documents_itself_and_each_argument(name: str) -> None:
    (part,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGES["hooks.md"], re.M | re.S)
    assert inspect.getdoc(HOOKS[name]) and f"{name}(" in part
    for argument in inspect.signature(HOOKS[name]).parameters:
        if argument != "self":
            assert re.search(rf"^- `{argument}`: \S", part, re.M), argument
    if name in ("scorers", "metrics", "methods", "attacks"):
        assert re.search(r"^- returns: \S", part, re.M)


def sections(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            assert (kind.__doc__ or "").strip(), f"{path}{name} does not say what it is"
            yield from sections(kind, f"{path}{name}.")
        else:
            yield f"{path}{name}", field


def test_every_setting_says_what_it_is() -> None:
    fields = dict(sections(RunConfig))
    assert len(fields) > 100
    assert [name for name, field in fields.items() if len(field.description or "") < 8] == []
    assert [name for name in fields if f"| `{name}` |" not in PAGES["settings.md"]] == []


@pytest.mark.parametrize("entry", LISTING, ids=lambda entry: f"{entry['kind']}-{entry['name']}")
def test_what_comes_with_the_library_says_what_it_is_and_what_each_setting_is(entry: dict[str, Any]) -> None:
    cls = getattr(PluginRegistry(), entry["kind"])(entry["name"])
    page = PAGES[f"catalogue/{entry['kind']}s/{entry['name']}.md"]
    summary = page.split("\n")[1].replace("&lt;", "<")
    assert len(entry["summary"]) > 15 and summary == entry["summary"]
    part = page.split("## Settings\n")[1].split("\n## ")[0]
    for name, field in cls.Params.model_fields.items():
        assert len(field.description or "") > 7, name
        assert (f"| `{name}` |" in part) == (name not in getattr(cls.Params, "idle", ()))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_says_what_it_and_each_option_is_for(name: str) -> None:
    (part,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGES["commands.md"], re.M | re.S)
    assert inspect.getdoc(COMMANDS[name])
    hints = get_type_hints(COMMANDS[name], include_extras=True)
    hints.pop("return")
    hints.pop("context", None)  # the call itself, which nobody types
    rows = [line for line in part.splitlines() if line.startswith("| `")]
    assert len(rows) == len(hints)
    assert all(len(hint.__metadata__[0].help) > 8 for hint in hints.values())
    shown = [re.findall(r"`(--[\w-]+)", row) for row in rows]
    assert all(re.fullmatch(r"--[a-z][a-z-]*[a-z]", option) for options in shown for option in options)


def test_no_cell_of_a_reference_page_is_an_empty_code_span() -> None:
    assert [line for page in PAGES.values() for line in page.splitlines() if "``" in line and "```" not in line] == []


def test_every_command_is_met_outside_the_reference() -> None:
    """Somebody who reads README and the pages written by hand meets each command once in a line to type."""
    typed = "\n".join(block.text for block in BLOCKS if block.language == "sh")
    assert [name for name in COMMANDS if f"deattrib {name}" not in typed] == []


# -- pages by hand that name what the code has -----------------------------------------------------------------------------
def flat(settings: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


@pytest.mark.parametrize(("preset", "until"), [("paper", "## `preset: ppo`"), ("ppo", "## What the paper leaves open")])
def test_the_page_of_presets_names_each_setting_that_one_changes(preset: str, until: str) -> None:
    ours, theirs = (dict(flat(build_config(data={"preset": name}).plain())) for name in ("default", preset))
    changed = {key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)} - {"preset", "reward", "reward.name"}
    page = (DOCS / "presets.md").read_text(encoding="utf-8").split(until)[0]
    part = page.split("## `preset: ppo`")[-1]
    assert len(changed) > 6 and [key for key in sorted(changed) if f"`{key}`" not in part] == []


def test_the_limits_say_of_each_scorer_what_it_cannot_see() -> None:
    page = (
        (DOCS / "limits.md").read_text(encoding="utf-8").split("## What each approximation cannot see\n")[1].split("\n## ")[0]
    )
    said = {name for cell in re.findall(r"\[([^]]+)\]\(scorers/", page) for name in cell.split(", ")}
    assert said == {entry["name"] for entry in LISTING if entry["kind"] == "scorer"}


def test_examples_and_extras_are_all_listed() -> None:
    table = (DOCS / "standalone.md").read_text(encoding="utf-8").split("## Examples\n")[1]
    paths = [path for path in (ROOT / "examples").glob("*.py") if path.name[0] != "_"]
    scripts = [path.name for path in paths if "--tiny" in path.read_text(encoding="utf-8")]
    assert len(scripts) > 5 and [name for name in scripts if f"[{name}](../examples/{name})" not in table] == []
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (said,) = re.findall(r"# extras: (.*)", (DOCS / "index.md").read_text(encoding="utf-8"))
    assert set(re.findall(r"\w+", said)) - {"CUDA"} == set(extras) - {"all", "docs", "dev"}


# -- README's excerpts ------------------------------------------------------------------------------------------------------
README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLE = next(block.text for block in BLOCKS if block.page == "README.md" and "original" in block.text.split("\n")[0])


def test_the_table_in_the_readme_has_the_lines_that_the_demo_prints() -> None:
    head, *lines = TABLE.rstrip("\n").splitlines()
    assert re.split(r"\s{2,}", head.strip()) == [label for _, label in show.ROWS]
    assert [line[:16].rstrip() + line[16] for line in lines] == [LABELS[key] + arrow for key, arrow in show.COLUMNS]
    assert all(re.fullmatch(r"( +(\d+\.\d{3}|–)){4}", line[17:]) for line in lines)


def test_the_table_is_made_anew_from_a_run() -> None:
    """With other figures the same place, the same form; with its own figures nothing moves."""
    _, *lines = TABLE.rstrip("\n").splitlines()
    columns = [line[17:].split() for line in lines]
    rows = {
        key: {figure: float(columns[j][i]) for j, (figure, _) in enumerate(show.COLUMNS)}
        for i, (key, _) in enumerate(show.ROWS)
    }
    assert GENERATE.with_table(README, {"rows": rows}) == README
    rows["unlearned"]["tow"] = 0.123
    changed = GENERATE.with_table(README, {"rows": rows})
    assert changed != README and changed.count("\n") == README.count("\n") and " 0.123 " in changed


def test_the_table_in_the_readme_is_what_was_measured() -> None:
    """Seed 0 with `classifier`, as docs/results/default.csv has it: nobody types a figure."""
    rows: dict[str, dict[str, float]] = {}
    for line in read_csv(DOCS / "results" / "default.csv"):
        if line["seed"] == 0 and line["run"] in ("", "classifier-seed0"):
            rows.setdefault(line["row"], {})[line["metric"]] = line["value"]
    assert set(rows) == {key for key, _ in show.ROWS}
    assert GENERATE.with_table(README, {"rows": rows}) == README
    rows["oracle"]["tow"] = 0.123
    assert GENERATE.with_table(README, {"rows": rows}) != README


def test_settings_that_the_readme_shows_of_a_row_are_columns_of_the_reader() -> None:
    """What README says a line of rows.jsonl may hold is what the reader takes."""
    from deattrib.corpus import jsonl

    taken = set(re.findall(r'"(\w+)"', inspect.getsource(jsonl)))
    (said,) = re.findall(r"`rows.jsonl` has one `(\{.*?\})` a line", " ".join(README.split()))
    assert {"owner", "prompt", "response"} <= set(re.findall(r'"(\w+)": ', said)) <= taken
