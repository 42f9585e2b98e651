"""`deattrib doctor` sees what is wrong with an installation, and that nothing is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deattrib.cli.doctor import lines_of, size, verdict
from deattrib.runs.doctor import examine
from deattrib.runs.self_test import self_test


def distribution(folder: Path, name: str, *, requires: tuple[str, ...] = (), entry_points: str = "") -> None:
    """An installed distribution, as far as its metadata go."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {text}\n" for text in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
    (info / "entry_points.txt").write_text(entry_points)


def test_this_installation_is_sound_and_nothing_is_left_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "DEATTRIB_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "deattrib", "doctor", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["problems"] == [] and report["schema"] == 1
    assert report["versions"]["torch"] and None not in report["versions"].values()
    assert report["device"] in ("cpu", "mps", "cuda") and report["threads"]["torch"] >= 1
    assert report["cache"]["folder"] == str(tmp_path / "cache") and report["cache"]["files"] == 0
    assert report["plugins"]["ready"]["scorer"] >= 15
    test = report["self_test"]
    assert test["passed"] and [stage["name"] for stage in test["stages"]] == ["import", "corpus", "model", "scorer", "PPO step"]
    assert test["figures"]["ratio_error"] == 0.0  # one update on samples of the policy itself
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("torchinductor")] == []  # that one is torch's


def test_a_scorer_that_is_not_there_fails_the_self_test_at_its_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEATTRIB_PLUGINS", "none")
    heard: list[str] = []
    result = self_test(heard.append)
    assert not result["passed"] and heard == ["import", "corpus", "model", "scorer"]
    assert "classifier" in result["stages"][-1]["error"] and result["figures"] == {}


def test_a_plugin_that_does_not_load_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "broken-scorer", entry_points="[deattrib]\nbroken = no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    report = examine()
    (problem,) = report["problems"]
    assert "'broken' (broken-scorer 1.0) does not load" in problem and "no_such_module_anywhere" in problem
    (failed,) = report["plugins"]["failed"]
    assert failed["distribution"] == "broken-scorer"
    assert any(line.startswith("not loaded  broken: ") for line in lines_of(report))
    assert verdict(report).startswith("PROBLEM     Plugin 'broken'")


def test_dependencies_are_held_against_what_is_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ("no-such-thing>=1", "pydantic<1", "pluggy>=1", "other-thing; extra == 'trak'", "nowhere; python_version < '3'")
    distribution(tmp_path, "deattrib", requires=needs)
    monkeypatch.syspath_prepend(tmp_path)
    report = examine()
    missing, old = [problem for problem in report["problems"] if "pip install" in problem]
    assert missing == 'no-such-thing is not installed. Install it with: pip install "no-such-thing>=1"'
    assert old.startswith("pydantic is ") and "needed is <1" in old
    assert set(report["versions"]) == {"deattrib", "no-such-thing", "pydantic", "pluggy"}
    assert report["versions"]["no-such-thing"] is None


def test_the_wrong_trak_is_told_from_the_right_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "trak")
    monkeypatch.syspath_prepend(tmp_path)
    assert any("pip install traker" in problem for problem in examine()["problems"])


def test_a_cache_that_cannot_be_written_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DEATTRIB_CACHE", str(tmp_path / "file" / "cache"))
    report = examine()
    assert [problem for problem in report["problems"] if "DEATTRIB_CACHE" in problem]
    assert report["variables"]["DEATTRIB_CACHE"].endswith("cache")


def test_the_cache_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEATTRIB_CACHE", str(tmp_path))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights").write_bytes(b"x" * 3000)
    (tmp_path / "b").write_bytes(b"x" * 100)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    cache: dict[str, Any] = examine()["cache"]
    assert (cache["files"], cache["bytes"]) == (2, 3100)
    assert size(cache["bytes"]) == "3 KiB" and size(5 * 2**30) == "5.0 GiB"
