"""`deattrib new-scorer`: which names it takes, what it writes, and what it leaves alone. See tests/test_plugin_kit.py, too."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import deattrib
from deattrib.cli.new_scorer import check_name, words_of, write
from deattrib.errors import ConfigError

NAMES = ["ngram-overlap", "my_scorer", "scorer", "rows", "true", "x2"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_complete_and_has_no_blanks_left(tmp_path: Path, name: str) -> None:
    check_name(name)
    folder = write(name, tmp_path / "new" / "place")
    words = words_of(name)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    module = words["module"]
    assert files == sorted(
        [".github/workflows/tests.yml", "README.md", f"{module}.py", "pyproject.toml", f"tests/test_{module}.py"]
    )
    assert [path.name for path in folder.parent.iterdir()] == [f"deattrib-{name.replace('_', '-')}"]
    for path in folder.rglob("*.py"):
        ast.parse(path.read_text())
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert not any(f"@{word}@" in path.read_text() for word in words), path
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["deattrib"] == {name: module}
    assert Requirement(project["dependencies"][0]).specifier.contains(deattrib.__version__)
    steps = yaml.safe_load((folder / ".github/workflows/tests.yml").read_text())["jobs"]["tests"]["steps"]
    assert "](http" not in (folder / "README.md").read_text()  # nothing says that such a page exists
    assert f"deattrib check {name}" in [step.get("run") for step in steps]


@pytest.mark.parametrize("name", NAMES)
def test_the_scorer_that_is_written_is_short_and_can_be_registered(tmp_path: Path, name: str) -> None:
    folder = write(name, tmp_path)
    words = words_of(name)
    source = (folder / f"{words['module']}.py").read_text()
    (cls,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert cls.end_lineno is not None and cls.end_lineno - cls.lineno < 20
    found = deattrib.PluginRegistry(entry_points=False).scorer(f"{folder / words['module']}.py:{words['class']}")
    assert found.name == name


@pytest.mark.parametrize("name", ["", "9lives", "Overlap", "a b", "../up", "a--b", "-a", "a-", "a.b", "ä", "a" * 41, "a@b"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected lower-case letters"):
        check_name(name)


@pytest.mark.parametrize("name", ["classifier", "random", "controls"])
def test_names_of_installed_scorers_and_entry_points_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"already, from deattrib .*another name"):
        check_name(name)


def test_the_name_of_a_module_on_the_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deattrib_taken.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="module 'deattrib_taken'"):
        check_name("taken")


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deattrib-bag-of-words"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        write("bag-of-words", tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["deattrib-bag-of-words", "mine.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        write("bag-of-words", tmp_path / "file")
