"""What a run looks like in a terminal: a progress bar there, plain lines everywhere else; and the table at its end."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from deattrib.report.labels import LABELS
from deattrib.runs.listener import Listener

EVERY = 10
COLUMNS = (
    ("forget_rouge", "→"),
    ("fact_recall", "→"),
    ("attribution", "→"),
    ("extraction_strength", "→"),
    ("ks_distance", "↓"),
    ("retain_rouge", "↑"),
    ("retain_paraphrase_rouge", "↑"),
    ("world_rouge", "↑"),
    ("model_utility", "↑"),
    ("gibberish_rate", "↓"),
    ("oracle_perplexity", "↓"),
    ("tow", "↑"),
)
ROWS = (("original", "original"), ("unlearned", "unlearned"), ("oracle", "oracle"), ("oracle_second", "oracle 2"))


class Show(Listener):
    """Prints stages, steps and warnings."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.start = time.monotonic()
        self.progress: Progress | None = None
        self.task: Any = None

    def __enter__(self) -> Show:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None

    def stage(self, name: str, detail: str = "") -> None:
        self._end()
        seconds = time.monotonic() - self.start
        self.console.print(f"[dim]{seconds:6.1f} s[/dim]  [bold]{name:9s}[/bold] ", end="")
        self.console.print(detail, markup=False, soft_wrap=True)

    def step(self, number: int, total: int, figures: dict[str, float]) -> None:
        text = "  ".join(
            f"{key} {figures[key]:.3f}" for key in ("attribution", "kl", "anchor_hinge", "retain_loss") if key in figures
        )
        if self.console.is_terminal:
            if self.progress is None:
                self.progress = Progress(
                    TextColumn("          "),
                    BarColumn(),
                    TextColumn("{task.completed}/{task.total}"),
                    TimeElapsedColumn(),
                    TextColumn("{task.description}"),
                    console=self.console,
                    transient=True,
                )
                self.progress.start()
                self.task = self.progress.add_task("", total=total)
            self.progress.update(self.task, completed=number, description=text)
        elif number == 1 or number % EVERY == 0:
            self.console.print(f"          step {number}/{total}  {text}", markup=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        self.console.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)


def table(metrics: dict[str, Any]) -> str:
    """The models side by side, one measure a line."""
    rows = [(label, metrics["rows"].get(key)) for key, label in ROWS]
    rows = [(label, row) for label, row in rows if row]
    lines = ["", f"{'':18s}" + "".join(f"{label:>11s}" for label, _ in rows)]
    for key, arrow in COLUMNS:
        cells = "".join(f"{row[key]:11.3f}" if row.get(key) is not None else f"{'–':>11s}" for _, row in rows)
        lines.append(f"{LABELS[key]:16s}{arrow} {cells}")
    lines.append("")
    lines.append(
        "→ closer to the oracle (retrained without the forgotten owners) is better; it is the yardstick, never a contender."
    )
    if metrics.get("ceiling"):
        from deattrib.report.headline import CEILING

        lines.append(CEILING)
    return "\n".join(lines)
