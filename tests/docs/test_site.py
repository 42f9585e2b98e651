"""The site: its navigation names every page, every link leads somewhere, it builds without a warning and fetches nothing."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from tests.docs.fences import DOCS, FENCE, PAGES, ROOT

from deattrib.attribution.plugins import PluginRegistry


def load_hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site_hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = load_hooks()
NAVIGATION = HOOKS.navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
GENERATED = {"CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "examples/index.md"}  # by docs/site_hooks.py


def brought(kind: str) -> list[str]:
    """Names of what comes with the library."""
    listing = PluginRegistry().listing()
    return [entry["name"] for entry in listing if entry["kind"] == kind and entry["distribution"] == "deattrib"]


def leaves(part: Any) -> list[str]:
    if isinstance(part, str):
        return [part]
    return [leaf for item in (part.values() if isinstance(part, dict) else part) for leaf in leaves(item)]


def slugs(page: str) -> set[str]:
    """Anchors of a page's headings, as the site and the repository's own pages make them for ASCII headings."""
    plain = FENCE.sub("", page)
    titles = re.findall(r"^#{1,6} (.*)$", plain, re.M)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


def test_the_navigation_names_every_page_once() -> None:
    named = leaves(NAVIGATION)
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert len(named) == len(set(named)) and set(named) == there | GENERATED


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    page = FENCE.sub("", path.read_text(encoding="utf-8"))
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", page)):
        if re.match(r"https?://|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        found = path if not file else path.parent / file
        if not found.exists() or (anchor and anchor not in slugs(found.read_text(encoding="utf-8"))):
            dead.append(target)
    assert dead == []


def test_every_scorer_has_a_page() -> None:
    """Or a place on the page of its family, which names it in its heading or a table."""
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "scorers").glob("*.md"))
    heads = set(re.findall(r"[\w-]+", " ".join(re.findall(r"^# (.*)$", pages, re.M))))
    names = brought("scorer")
    assert len(names) >= 15 and [name for name in names if name not in heads] == []


def test_every_method_has_a_section() -> None:
    page = (DOCS / "methods.md").read_text(encoding="utf-8")
    assert [name for name in brought("method") if f"\n## {name}\n" not in page] == []


def test_the_picture_is_whole_and_fetches_nothing() -> None:
    text = (DOCS / "way.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    said = " ".join("".join(element.itertext()) for element in root.iter())
    for word in ("corpus", "scorer", "calibration", "rollout", "attribution", "reward", "policy", "evaluation", "distillation"):
        assert word in said
    assert "href" not in text and "<script" not in text and root.find("{http://www.w3.org/2000/svg}desc") is not None


def test_lists_and_tables_get_the_blank_line_that_the_site_needs() -> None:
    assert HOOKS.spaced("As:\n- a\n- b\n  more\n- c\nend\n") == "As:\n\n- a\n- b\n  more\n- c\nend\n"
    assert HOOKS.spaced("T\n| a |\n|---|\n") == "T\n\n| a |\n|---|\n"
    assert HOOKS.spaced("```sh\nx\n- no list\n```\n") == "```sh\nx\n- no list\n```\n"
    assert HOOKS.spaced("1. a\n2. b\n") == "1. a\n2. b\n"


def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the extra 'docs' is not installed; `make docs` builds the site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    built = {path: path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")}
    assert len(built) > 50
    assert [path.name for path, text in built.items() if re.search(r"(?:src|<link[^>]*href)=\"?https?://", text)] == []
    start = built[tmp_path / "site" / "index.html"]
    assert tmp_path / "site" / "catalogue" / "scorers" / "classifier.html" in built
    assert "howto/corpus.html" in start and "<table>" in start
