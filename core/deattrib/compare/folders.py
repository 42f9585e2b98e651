"""Run folders as the comparison sees them: what was run, what came of it, or why nothing did."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deattrib.errors import DeattribError, RunError
from deattrib.evaluation.row_file import NAME, RowFigures, read_row_figures
from deattrib.report.figures import mapping
from deattrib.report.files import read_object
from deattrib.yaml_file import load_yaml

ENGINE = "dareu"


@dataclass(frozen=True, slots=True)
class Label:
    """What a run is in a comparison.

    Attributes:
        variant: empty for settings without overrides of their own.
        rewarded: whether the method is trained on the reward; None where that is not said: `dareu` is.
    """

    method: str
    reward: str
    variant: str
    seed: int
    rewarded: bool | None = None

    @property
    def entry(self) -> str:
        """One name for all seeds: the method, with the reward where the method is trained on it, and the variant."""
        rewarded = self.method == ENGINE if self.rewarded is None else self.rewarded
        words = [f"{self.method} · {self.reward}" if rewarded else self.method]
        return " · ".join([*words, self.variant] if self.variant else words)


@dataclass(frozen=True, slots=True, eq=False)
class ComparedRun:
    """One run.

    Attributes:
        name: of its folder.
        folder: where it is; None where it never came to be.
        metrics: parsed metrics.json; None for a run that did not finish.
        figures: row by row; None where the run has none (made by an earlier version).
        versions: of the libraries it ran with.
        config: its settings.
        error: why there is no result, or "".
    """

    name: str
    label: Label
    folder: Path | None
    metrics: Mapping[str, object] | None
    figures: RowFigures | None
    versions: Mapping[str, object]
    config: Mapping[str, object]
    error: str = ""

    @property
    def rows(self) -> Mapping[str, object]:
        return mapping(mapping(self.metrics).get("rows"))


def read_run(folder: Path, label: Label, *, error: str = "") -> ComparedRun:
    """A run from its folder; what cannot be read becomes its `error`.

    Args:
        error: why there is no result.
    """
    try:
        if error:
            raise RunError(error)
        metrics = _with_attacks(read_object(folder / "metrics.json", hint=" Has the run finished?"), folder / "attacks.json")
        versions = mapping(read_object(folder / "manifest.json").get("versions"))
        figures = read_row_figures(folder / NAME) if (folder / NAME).is_file() else None
        config = load_yaml(folder / "config.yaml")
    except (DeattribError, OSError, ValueError, RecursionError) as problem:
        where = folder if folder.is_dir() else None
        return ComparedRun(folder.name, label, where, None, None, {}, {}, str(problem))
    return ComparedRun(folder.name, label, folder, metrics, figures, versions, config)


def _with_attacks(metrics: Mapping[str, object], path: Path) -> Mapping[str, object]:
    """The metrics with attacks that were made after the run, in `attacks.json` ({"rows": model -> attack -> entry})."""
    if not path.is_file():
        return metrics
    rows: dict[str, object] = dict(mapping(metrics.get("rows")))
    for model, later in mapping(read_object(path).get("rows")).items():
        row = mapping(rows.get(model))
        if row:
            rows[model] = {**row, "attacks": {**mapping(row.get("attacks")), **mapping(later)}}
    return {**metrics, "rows": rows}


def find_runs(folders: Iterable[Path]) -> list[ComparedRun]:
    """Runs made without a comparison: labels from their own files, variants from the folders' names.

    A folder called after its method or reward, as runs are by default, has no variant; any other name (without "-seedN") is
    one.
    """
    return [run for folder in sorted(folders) if (run := _unlabelled(folder)) is not None]


def _unlabelled(folder: Path) -> ComparedRun | None:
    if not (folder / "metrics.json").is_file():
        return None
    metrics = read_object(folder / "metrics.json")
    seed, method, reward = metrics.get("seed"), str(metrics.get("method") or ENGINE), str(metrics.get("reward") or "?")
    rewarded = metrics.get("rewarded")
    label = Label(method, reward, "", seed if isinstance(seed, int) else 0, rewarded if isinstance(rewarded, bool) else None)
    run = read_run(folder, label)
    # The digest that a comparison puts at the end goes; the "-2" of a second folder stays: other settings, most likely.
    called = re.sub(r"-seed\d+(-[0-9a-f]{8}$)?", "", folder.name)
    plain = reward.replace("+", "-")  # as folders have it
    usual = {method, plain, f"{method}-{plain}"}
    usual |= {f"{run.config.get('name')}-{name}" for name in usual}
    return run if called in usual else replace(run, label=replace(run.label, variant=called))


def by_entry(runs: Sequence[ComparedRun]) -> dict[str, list[ComparedRun]]:
    """Entry name -> its runs, by seed; entries in the order of their first run."""
    found: dict[str, list[ComparedRun]] = {}
    for run in runs:
        found.setdefault(run.label.entry, []).append(run)
    return {name: sorted(group, key=lambda run: run.label.seed) for name, group in found.items()}
