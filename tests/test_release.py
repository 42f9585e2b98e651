"""What is written in several places is the same in all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def test_everything_that_is_named_is_pinned_for_the_makefile() -> None:
    """All direct dependencies, of tests and site too, and Markdown's parts, which decide what the site looks like."""
    extras = PROJECT["optional-dependencies"]
    named = [*PROJECT["dependencies"], *(item for name in ("trak", "captum", "sweeps", "dev", "docs") for item in extras[name])]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    versions = {canonicalize_name(item.name): str(item.specifier).removeprefix("==") for item in pinned}
    assert len(versions) == len(pinned) and all(str(item.specifier).startswith("==") for item in pinned)
    wanted = {canonicalize_name(item.name): item.specifier for item in map(Requirement, named)}
    assert set(wanted) | {"markdown", "pymdown-extensions", "pygments"} == set(versions)
    assert [name for name, specifier in wanted.items() if versions[name] not in specifier] == []
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    installs = [line for line in makefile.splitlines() if "pip install" in line and "--upgrade pip" not in line]
    assert len(installs) == 2 and all("--constraint constraints.txt" in line for line in installs)


def test_what_the_extra_docs_is_needed_for_is_tested_once_it_is_there() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    after = lines[lines.index("make docs") :]
    skipping = [
        path for path in (ROOT / "tests" / "docs").glob("test_*.py") if "importorskip" in path.read_text(encoding="utf-8")
    ]
    assert skipping and all(any(f"tests/docs/{path.name}" in line for line in after) for path in skipping)
