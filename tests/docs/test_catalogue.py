"""Each scorer, method, metric and attack that comes with the library has a page, and what stands there can be typed."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from tests.docs.fences import BLOCKS, DOCS, Block
from tests.docs.test_reference import GENERATE, PAGES
from tests.docs.test_site import HOOKS, NAVIGATION, leaves, slugs

from deattrib import PluginRegistry
from deattrib.cli.specs import parse_spec
from deattrib.yaml_file import parse_yaml

CATALOGUE = GENERATE.catalogue_pages
REGISTRY = PluginRegistry()
LISTED = {
    f"catalogue/{entry['kind']}s/{entry['name']}.md": entry
    for entry in REGISTRY.listing()
    if entry["distribution"] == "deattrib" and entry["kind"] in ("scorer", "method", "metric", "attack")
}
SECTIONS = ["Idea and source", "Settings", "How to pick it"]


def blocks(path: str, language: str) -> list[Block]:
    return [block for block in BLOCKS if block.page == f"docs/{path}" and block.language == language]


def class_of(path: str) -> Any:
    return getattr(REGISTRY, LISTED[path]["kind"])(LISTED[path]["name"])


def test_every_one_has_a_page_in_the_navigation_and_no_page_is_left_of_one_that_is_gone() -> None:
    assert len(LISTED) > 40
    assert {name for name in PAGES if name.startswith("catalogue/")} == set(LISTED)
    assert {path.relative_to(DOCS).as_posix() for path in (DOCS / "catalogue").rglob("*.md")} == set(LISTED)
    assert [page for page in leaves(NAVIGATION) if page.startswith("catalogue/")] == re.findall(
        r"\]\((catalogue/[^)]+)\)", PAGES["catalogue.md"]
    )
    assert set(leaves(NAVIGATION)) >= set(LISTED)


def test_the_navigation_has_them_by_kind() -> None:
    reference = HOOKS.navigation([{"A": ["a.md", {"Catalogue": "catalogue.md"}]}])
    assert reference[0]["A"][0] == "a.md"
    index, *kinds = reference[0]["A"][1]["Catalogue"]
    assert index == "catalogue.md" and [title for kind in kinds for title in kind] == [
        "Scorers",
        "Methods",
        "Metrics",
        "Attacks",
    ]


def test_a_page_of_one_that_is_gone_is_deleted(tmp_path: Path) -> None:
    for name in ("catalogue/scorers/gone.md", "catalogue/scorers/kept.md", "by-hand.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("old")
    GENERATE.write(tmp_path, {"catalogue/scorers/kept.md": "new", "catalogue/attacks/more.md": "new"})
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.md")}
    assert found == {"catalogue/scorers/kept.md": "new", "catalogue/attacks/more.md": "new", "by-hand.md": "old"}


@pytest.mark.parametrize("path", sorted(LISTED))
def test_a_page_has_every_part_and_leads_to_where_it_is_compared(path: str) -> None:
    page, entry = PAGES[path], LISTED[path]
    assert page.startswith(f"# {entry['name']}\n")
    titles = re.findall(r"^## (.*)$", page, re.M)
    assert [title for title in titles if title in SECTIONS] == SECTIONS
    (target,) = re.findall(r"^\| explained and compared \| \[.*?\]\(\.\./\.\./(.*?)\) \|$", page, re.M)
    file, _, anchor = target.partition("#")
    text = (DOCS / file).read_text(encoding="utf-8")
    assert entry["name"] in text and (anchor in slugs(text) if anchor else entry["kind"] == "scorer")
    if entry["kind"] in ("scorer", "metric", "attack"):
        assert "What it cannot see" in titles or "When it misleads" in titles
    for need in entry["needs"]:
        assert need in page


@pytest.mark.parametrize("path", sorted(LISTED))
def test_the_text_of_the_module_is_there_whole(path: str) -> None:
    part = PAGES[path].split("## Idea and source\n")[1].split("\n## ")[0].replace("&lt;", "<")
    module = inspect.getmodule(class_of(path))
    words = re.sub(r"``(\w+)``", r"`\1`", module.__doc__ or "").split() if module else []
    assert words and " ".join(words) in " ".join(part.replace("```text\n", "").replace("```\n", "").replace("\\", "").split())


@pytest.mark.parametrize("path", sorted(LISTED))
def test_the_config_names_it_and_all_of_its_settings_at_their_defaults(path: str) -> None:
    (block,) = blocks(path, "yaml")
    tree, cls, kind = parse_yaml(block.text, source=str(block)), class_of(path), LISTED[path]["kind"]
    if kind == "metric":
        (spec,) = tree["evaluation"]["metrics"]
    else:
        spec = tree["attacks"][0] if kind == "attack" else tree["reward" if kind == "scorer" else kind]
    name, *given = [spec] if isinstance(spec, str) else [spec.pop("name"), *spec]
    assert name == cls.name and set(given) == set(cls.Params.model_fields) - set(getattr(cls.Params, "idle", ()))
    assert cls.Params(**({} if isinstance(spec, str) else spec)) == cls.Params()


@pytest.mark.parametrize("path", sorted(LISTED))
def test_each_command_line_names_it_with_a_setting_that_it_has(path: str) -> None:
    (block,) = blocks(path, "sh")
    cls = class_of(path)
    lines = block.text.splitlines()
    assert lines[0].startswith("deattrib ")
    for line in lines:
        (word,) = [word for word in line.split() if word.split(":")[0] == cls.name]
        spec = parse_spec(word)
        settings = {} if isinstance(spec, str) else {key: value for key, value in spec.items() if key != "name"}
        assert cls.Params(**settings) == cls.Params()
    assert any(":" in line for line in lines) or all(
        field.default is None or isinstance(field.default, tuple) for field in cls.Params.model_fields.values()
    )


def test_prose_keeps_formulas_and_signs() -> None:
    said = GENERATE.catalogue_pages.prose(
        "One\n*two words* y_<t of _file.py, f*(g*(x)) * 2.\n\n    s = a_b\n      + c * d < e\n\n- `x_<t`: one\n  more\n- two\n"
    )
    assert said.split("\n\n") == [
        "One *two words* y_&lt;t of \\_file.py, f\\*(g\\*(x)) \\* 2.",
        "```text\ns = a_b\n  + c * d < e\n```",
        "- `x_<t`: one more\n- two",
    ]


def test_a_scorer_without_a_page_of_its_family_or_a_limit_is_an_error() -> None:
    item = CATALOGUE.Item("scorer", class_of("catalogue/scorers/none.md"), {"name": "nowhere"})
    with pytest.raises(LookupError, match="nowhere"):
        CATALOGUE.compared(item)
    with pytest.raises(LookupError, match="nowhere"):
        CATALOGUE.quoted(item)
