"""An observer of runs: the figures of every step, as `figures.csv` in the run folder, up to date after each step.

Observers see and never steer: what a hook returns is not used, and one that raises costs a warning, not the run. A run
that is resumed repeats the steps since its last checkpoint; their rows are replaced, so every step is there once.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deattrib import hookimpl


class CsvTracker:
    """Writes one row per step: the step, then the figures in the order of the first step's."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.rows: list[dict[str, str]] = []

    @hookimpl
    def run_started(self, folder: Path | None) -> None:
        self.path = folder / "figures.csv" if folder is not None else None  # a run in memory has no folder
        self.rows = []
        if self.path is not None and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))

    @hookimpl
    def step_finished(self, step: int, figures: Mapping[str, float]) -> None:
        if self.path is None:
            return
        values = {name: repr(value) for name, value in figures.items()}
        self.rows = [*(row for row in self.rows if int(row["step"]) < step), {"step": str(step), **values}]
        columns = dict.fromkeys(name for row in self.rows for name in row)
        part = self.path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        part.replace(self.path)  # whoever reads it sees whole tables only

    @hookimpl
    def run_finished(self, metrics: Mapping[str, Any] | None) -> None:
        if metrics is None and self.path is not None:
            print(f"csv-tracker: the run failed after {len(self.rows)} steps, see {self.path}")
        self.path, self.rows = None, []


tracker = CsvTracker()
