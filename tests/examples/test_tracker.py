"""The example tracker by itself; tests/test_plugin_kit.py runs it installed, in a real run."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from deattrib import PluginRegistry

SOURCE = Path(__file__).parents[2] / "examples" / "deattrib-csv-tracker" / "deattrib_csv_tracker.py"


@pytest.fixture
def registry() -> PluginRegistry:
    spec = importlib.util.spec_from_file_location("deattrib_csv_tracker", SOURCE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    registry = PluginRegistry(entry_points=False)
    registry.register(module.tracker, name="csv-tracker")
    return registry


def drive(registry: PluginRegistry, folder: Path | None, steps: list[tuple[int, dict[str, float]]], **end: Any) -> None:
    messages = registry.notify("run_started", folder=folder, config={})
    for step, figures in steps:
        messages += registry.notify("step_finished", step=step, figures=figures)
    messages += registry.notify("run_finished", folder=folder, **{"metrics": {}, **end})
    assert messages == []


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "figures.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_steps_that_are_repeated_after_a_resume_are_there_once(registry: PluginRegistry, tmp_path: Path) -> None:
    drive(registry, tmp_path, [(step, {"attribution": step / 10}) for step in (1, 2, 3, 4)], metrics=None)
    drive(registry, tmp_path, [(3, {"attribution": 0.5}), (4, {"attribution": 0.6, "kl": 1.0})])
    rows = table(tmp_path)
    assert [(int(row["step"]), float(row["attribution"]), row["kl"]) for row in rows] == [
        (1, 0.1, ""), (2, 0.2, ""), (3, 0.5, ""), (4, 0.6, "1.0"),
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["figures.csv"]


def test_a_failed_run_is_named_and_one_in_memory_leaves_nothing(
    registry: PluginRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drive(registry, None, [(1, {"attribution": 1.0})])
    assert capsys.readouterr().out == "" and not (Path.cwd() / "figures.csv").exists()
    drive(registry, tmp_path, [(1, {"attribution": 1.0})], metrics=None)
    assert "failed after 1 steps" in capsys.readouterr().out
