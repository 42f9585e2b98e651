"""What is written in several places is the same in all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CONTENT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = CONTENT["project"]


def test_the_version_is_one() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert heading is not None
    assert {str(citation["version"]), heading[1]} == {PROJECT["version"]}
    assert re.fullmatch(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?", PROJECT["version"])


def test_the_citation_has_what_the_format_wants() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["license"] == PROJECT["license"]
    assert {"message", "title", "authors"} <= set(citation) and citation["authors"]
    (paper,) = citation["references"]
    assert paper["identifiers"][0]["value"] == "arXiv:2605.30919" and paper["year"] == 2026


def test_a_source_distribution_has_what_its_pages_need() -> None:
    included = CONTENT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [name for name in included if not (ROOT / name).exists()] == []
    assert {"mkdocs.yml", "docs", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff"} <= set(included)


def test_the_documentation_is_made_with_pinned_versions() -> None:
    assert all("==" in item for item in PROJECT["optional-dependencies"]["docs"])
