"""The wheel that users get: everything in it, and it works from where it is installed, with a stranger's plugin beside it."""

from __future__ import annotations

import json
import zipfile
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from tests.installed import ROOT, install, run

from deattrib.cli.new_scorer import FILES

PLUGIN = '''
from deattrib import Scorer, hookimpl


class Vowels(Scorer):
    """Share of vowels."""

    name = "vowels"

    def score(self, rows):
        return [0.0] * len(rows)


@hookimpl
def scorers():
    return [Vowels]
'''


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed in it, and a distribution of somebody else that brings a scorer."""
    target = tmp_path_factory.mktemp("site")
    install(wheel, into=target)
    (target / "vowel_scorer.py").write_text(PLUGIN)
    info = target / "vowel_plugins-3.2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vowel-plugins\nVersion: 3.2.1\n")
    (info / "entry_points.txt").write_text("[deattrib]\nvowels = vowel_scorer\n")
    return target


def entry_points(text: str) -> dict[str, dict[str, str]]:
    parser = ConfigParser(delimiters=("=",))
    parser.read_string(text)
    return {section: dict(parser[section]) for section in parser.sections()}


def test_the_wheel_has_every_file_of_both_packages_and_nothing_else(wheel: Path) -> None:
    files = {
        str(path.relative_to(folder))
        for folder in (ROOT / "core", ROOT / "plugins")
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not any(part.endswith(".egg-info") for part in path.parts)
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == files
    assert {
        "deattrib/py.typed",
        "deattrib/report/page.html.j2",
        "deattrib/report/page.css",
        "deattrib/runs/demo.yaml",
        *(f"deattrib/cli/new_scorer_files/{name}" for name in FILES),
        "deattrib_scorers/py.typed",
        "deattrib_scorers/classifier.py",
    } <= packed


def test_the_wheel_says_how_it_is_called_and_what_it_plugs_in(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        points = entry_points(archive.read(name).decode())
        modules = {"/".join(target.split(":")[0].split(".")) + ".py" for group in points.values() for target in group.values()}
        assert points["console_scripts"] == {"deattrib": "deattrib.cli.main:main"}
        assert points["deattrib"]
        assert points["pytest11"] == {"deattrib": "deattrib.testing.plugin"}
        assert modules <= set(archive.namelist())
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def test_a_strangers_scorer_is_ready_beside_the_installed_wheel(site: Path, wheel: Path, tmp_path: Path) -> None:
    where = run("-c", "import deattrib; print(deattrib.__file__)", cwd=tmp_path, PYTHONPATH=str(site))
    assert Path(where.strip()).is_relative_to(site)
    printed = run("-m", "deattrib", "plugins", "--json", cwd=tmp_path, PYTHONPATH=str(site))
    listed: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in json.loads(printed)}
    theirs = listed["vowels"]
    assert (theirs["kind"], theirs["state"]) == ("scorer", "ready"), theirs["reason"]
    assert (theirs["distribution"], theirs["version"], theirs["entry_point"]) == ("vowel-plugins", "3.2.1", "vowels")
    ours = listed["classifier"]
    assert (ours["distribution"], ours["version"]) == ("deattrib", wheel.name.split("-")[1])
    assert ours["state"] == "ready", ours["reason"]
