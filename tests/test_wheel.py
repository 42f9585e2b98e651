"""The wheel that users get: everything in it, and it works from where it is installed, with a stranger's plugin beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "core", "plugins")

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


def run(*arguments: str, cwd: Path, **env: str) -> str:
    """Run Python in a process of its own that knows nothing of the source tree; what it printed."""
    outside = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DEATTRIB_PLUGINS")}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=cwd, env={**outside, **env}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{arguments}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source tree, built from a copy so that nothing is left in the tree."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist"), str(source), cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed in it, and a distribution of somebody else that brings a scorer."""
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-index", "--no-compile", "--quiet", "--disable-pip-version-check"]
    run("-m", "pip", "install", *options, "--target", str(target), str(wheel), cwd=target)
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
