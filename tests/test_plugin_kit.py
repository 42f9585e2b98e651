"""What somebody who writes a plugin does, beside the installed wheel: make one, install it, check it, run with it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.installed import ROOT, execute, install, run
from tests.runs.tiny import TINY

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel, both example distributions and one fresh from `deattrib new-scorer` installed in it."""
    target, work = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("work")
    install(wheel, into=target)
    run("-m", "deattrib", "new-scorer", "word-share", "--output", str(work), cwd=work, PYTHONPATH=str(target))
    for name in ("deattrib-ngram-overlap", "deattrib-csv-tracker"):
        shutil.copytree(EXAMPLES / name, work / name, ignore=shutil.ignore_patterns("__pycache__"))
    folders = sorted(path for path in work.iterdir() if path.is_dir())
    assert [path.name for path in folders] == ["deattrib-csv-tracker", "deattrib-ngram-overlap", "deattrib-word-share"]
    install(*folders, into=target)
    (target / "work").symlink_to(work)
    return target


def test_what_was_installed_is_listed_and_ready(site: Path, tmp_path: Path) -> None:
    listing = json.loads(run("-m", "deattrib", "plugins", "--json", cwd=tmp_path, PYTHONPATH=str(site)))
    found: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in listing}
    for name, distribution in (("word-share", "deattrib-word-share"), ("ngram-overlap", "deattrib-ngram-overlap")):
        entry = found[name]
        assert (entry["kind"], entry["state"], entry["distribution"], entry["version"]) == (
            "scorer", "ready", distribution, "0.1.0",
        )  # fmt: skip
    assert found["ngram-overlap"]["overrides"] == ["score_owners"]
    tracker = found["csv-tracker"]
    assert (tracker["kind"], tracker["state"]) == ("observer", "ready")
    assert tracker["overrides"] == ["run_finished", "run_started", "step_finished"]


def test_a_name_that_an_installed_plugin_has_is_refused(site: Path, tmp_path: Path) -> None:
    done = execute("-m", "deattrib", "new-scorer", "ngram-overlap", cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 1 and "deattrib-ngram-overlap 0.1.0" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_their_own_tests_pass_with_the_installed_fixtures(site: Path) -> None:
    folders = [str(site / "work" / name / "tests") for name in ("deattrib-word-share", "deattrib-ngram-overlap")]
    printed = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *folders, cwd=site / "work", PYTHONPATH=str(site))
    assert " passed" in printed and "failed" not in printed
    assert "TestWordShareScorer: word-share: fit" in printed and "TestNgramOverlap: ngram-overlap: fit" in printed


def test_collecting_a_contract_loads_no_torch(site: Path) -> None:
    code = (
        "import sys, pytest\n"
        "code = pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider', 'tests'])\n"
        "assert code == 0 and 'torch' not in sys.modules, (code, 'torch' in sys.modules)\n"
    )
    printed = run("-c", code, cwd=site / "work" / "deattrib-word-share", PYTHONPATH=str(site))
    assert "test_planted_owner_first" in printed


def test_they_serve_as_reward_of_a_run_and_the_tracker_sees_every_step(site: Path, tmp_path: Path, tiny_cache: Path) -> None:
    reward = [{"name": "ngram-overlap", "order": 2, "weight": 2.0}, {"name": "word-share"}]
    settings = {**TINY, "model": {**TINY["model"], "oracles": 0}, "ppo": {**TINY["ppo"], "steps": 3}, "reward": reward}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    command = ("-m", "deattrib", "run", "config.yaml", "--output", "out", "--threads", "1")
    run(*command, cwd=tmp_path, PYTHONPATH=str(site), DEATTRIB_CACHE=str(tiny_cache))
    out = tmp_path / "out"
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["reward"] == "ngram-overlap+word-share"
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["kind"] == "step"]
    with (out / "figures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [event["step"] for event in steps] == [1, 2, 3]
    for row, event in zip(rows, steps, strict=True):
        figures = {name: float(value) for name, value in row.items() if name != "step" and value != ""}
        assert figures == {name: event[name] for name in figures}
        assert "attribution" in figures


@pytest.mark.slow
def test_the_example_type_checks_strictly_against_the_installed_wheel(site: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    shutil.copytree(site / "work" / "deattrib-ngram-overlap", tmp_path / "example")
    names = ["example/deattrib_ngram_overlap.py", "example/tests"]
    assert "Success" in run("-m", "mypy", "--strict", *names, cwd=tmp_path, PYTHONPATH=str(site))
    with (tmp_path / "example" / "deattrib_ngram_overlap.py").open("a") as file:
        file.write("\n\nWRONG: int = NgramOverlap.name\n")  # only who reads the wheel's annotations sees this
    done = execute("-m", "mypy", "--strict", *names, cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 1 and 'variable has type "int"' in done.stdout
