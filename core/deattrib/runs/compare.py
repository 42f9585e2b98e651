"""A comparison from matrix to page: runs that are missing are made, all are read, tables and page are written.

OUTPUT/cells.json       what is compared: label and folder of each run
OUTPUT/runs/NAME/       ordinary run folders; one with the same settings is used again, a cut-off one gone on with
OUTPUT/logs/NAME.txt    what each run printed;  OUTPUT/jobs/: where runs were jobs (runs/sweeps.py)
OUTPUT/results.csv      every figure, written anew after every run (and results.parquet, where pyarrow is installed)
OUTPUT/compare.json     what the page says, for programs;  OUTPUT/compare.html: the page
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deattrib.compare.content import SAMPLES, build_content, shared_parts
from deattrib.compare.folders import ComparedRun, Label, find_runs, read_run
from deattrib.compare.page import render
from deattrib.compare.table import csv_text, long_rows, parquet_bytes
from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError, DeattribError, RunError, did_you_mean
from deattrib.runs.atomic import atomic_write_bytes, atomic_write_json, atomic_write_text, cannot_write
from deattrib.runs.children import Launcher, ProcessLauncher, carry_out, finished
from deattrib.runs.folder import read_manifest
from deattrib.runs.identity import check_reused, corpus_of
from deattrib.runs.listener import Say
from deattrib.runs.lock import LOCK_NAME, RunLock
from deattrib.runs.matrix import Cell, Matrix
from deattrib.runs.pipeline import check_scorers

CELLS = "cells.json"
RESULTS = "results.csv"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Where it is, and what compare.json holds."""

    folder: Path
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Executor:
    """How runs are carried out.

    Attributes:
        kind: "processes" of this one, or submitit's "local" or "slurm" (runs/sweeps.py).
        settings: of submitit.
    """

    kind: str = "processes"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def launcher(self, output: Path, cache: Path, say: Say) -> Launcher:
        """Raises ConfigError, RunError: it is not known, wrongly set or not to be had here."""
        if self.kind == "processes":
            if self.settings:
                raise ConfigError("--executor-set is for submitit's executors: give --executor local or slurm with it.")
            return ProcessLauncher(cache, output / "logs")
        from deattrib.runs.sweeps import KINDS, Jobs

        if self.kind not in KINDS:
            names = ["processes", *KINDS]
            raise ConfigError(f"--executor {self.kind!r}: expected one of {', '.join(names)}.{did_you_mean(self.kind, names)}")
        return Jobs(self.kind, self.settings, output=output, cache=cache, say=say)


def compare(
    matrix: Matrix,
    *,
    output: Path,
    cache: Path,
    jobs: int = 1,
    executor: Executor | None = None,
    say: Say = lambda text: None,
    samples: int = SAMPLES,
) -> Comparison:
    """Carry out a matrix of runs and compare them.

    Args:
        output: the comparison's folder; what is there already is used.
        cache: of made models.
        jobs: runs at a time.
        executor: how they are carried out; processes of one thread each by default.
        samples: draws of the bootstrap.

    Raises:
        ConfigError, PluginError: before anything is begun, where settings, a scorer, a method or the executor are wrong.
        RunError: another comparison is being made there, or a finished run there is not one of these.
    """
    cells = matrix.cells()
    for cell in {(cell.label.method, cell.label.reward, cell.label.variant): cell for cell in cells}.values():
        check_scorers(cell.config)
    launcher = (executor or Executor()).launcher(output, cache, say)
    with claimed(output, what="comparison"):
        folders = find_folders(cells, output)
        _write_cells(matrix, cells, folders, {}, output)  # so that --results shows what is finished, whatever happens to us
        known: dict[Path, ComparedRun] = {}
        errors = make_runs(cells, folders, launcher, cache, jobs=jobs, say=say, gather=lambda: _gather(output, known))
        _write_cells(matrix, cells, folders, errors, output)
        return write_comparison(_name(matrix), read_cells(output), output, samples=samples)


def claimed(output: Path, *, what: str, name: str = LOCK_NAME) -> RunLock:
    """The folder, made if it is not there, for this process alone. Raises RunError."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(output, error) from error
    return RunLock(output, name=name, what=what)


def find_folders(cells: Sequence[Cell], output: Path) -> dict[str, Path]:
    """Digest of the settings -> the folder that has such a run, or is to have it."""
    known = _known(output / "runs")
    return {
        cell.config.digest: known.get(cell.config.digest, output / "runs" / cell.folder_name)
        for cell in reversed(cells)  # of cells with equal settings the first one names the folder
    }


def make_runs(
    cells: Sequence[Cell],
    folders: Mapping[str, Path],
    launcher: Launcher,
    cache: Path,
    *,
    jobs: int,
    say: Say,
    gather: Callable[[], object] = lambda: None,
) -> dict[str, str]:
    """Make what is not finished, and go on with what was cut off. Digest -> error, "" where a run was made.

    Raises:
        RunError: a finished run that would be used again was made on another corpus, or with other code of a scorer or method.
    """
    work: dict[str, tuple[Cell, Path]] = {}
    for cell in cells:
        digest = cell.config.digest
        if not finished(folders[digest]):
            work.setdefault(digest, (cell, folders[digest]))
    there = {folders[cell.config.digest]: cell for cell in cells if cell.config.digest not in work}
    corpora: dict[str, Corpus] = {}
    for folder, cell in sorted(there.items(), key=lambda item: item[0]):
        check_reused(folder, cell.config, corpora)
        say(f"found     {folder.name}")
    made = models_there([cell for cell, _ in work.values()], cache, corpora) if jobs > 1 else set()
    return carry_out(list(work.values()), jobs=jobs, launcher=launcher, say=say, gather=gather, made=made)


def models_there(cells: Sequence[Cell], cache: Path, corpora: dict[str, Corpus]) -> set[str]:
    """Which original and oracles (`Cell.models`) no run would have to make first; each corpus is read once."""
    from deattrib.runs.prepare import all_made

    there = set()
    for models, config in {cell.models: cell.config for cell in cells}.items():
        with contextlib.suppress(DeattribError):  # what is wrong is for the run itself to say
            if all_made(corpus_of(config, corpora), config.model, seed=config.seed, cache=cache):
                there.add(models)
    return there


def _gather(output: Path, known: dict[Path, ComparedRun]) -> None:
    """results.csv of the runs that have finished so far, each read once; the page waits for the last one."""
    runs = read_cells(output, known=known)
    known |= {run.folder: run for run in runs if run.folder is not None and run.metrics is not None}
    runs = [run for run in runs if run.metrics is not None]
    over, _ = shared_parts(runs)
    atomic_write_text(output / RESULTS, csv_text(list(long_rows(runs, over))))


def _write_cells(
    matrix: Matrix, cells: Sequence[Cell], folders: Mapping[str, Path], errors: Mapping[str, str], output: Path
) -> None:
    listed = [
        {
            **dataclasses.asdict(cell.label),
            "folder": folders[cell.config.digest].relative_to(output).as_posix(),
            "error": errors.get(cell.config.digest, ""),
        }
        for cell in cells
    ]
    output.mkdir(parents=True, exist_ok=True)
    atomic_write_json(output / CELLS, {"schema": 1, "name": _name(matrix), "cells": listed})


def read_cells(folder: Path, *, known: Mapping[Path, ComparedRun] | None = None) -> list[ComparedRun]:
    """The runs of a comparison's folder; those of a plain folder of runs where nothing was compared yet.

    Args:
        known: runs by folder that need not be read again, since they are finished.

    Raises:
        RunError: there are none.
    """
    path = folder / CELLS
    if not path.is_file():
        places = [folder / "runs", folder]
        runs = next((found for place in places if (found := find_runs(_folders(place)))), [])
        if not runs:
            raise RunError(f"There are no finished runs in {folder} nor in {folder / 'runs'}; `deattrib compare` makes them.")
        return runs
    try:
        labels = [(_label(cell), cell) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(
            f"{path} is not what `deattrib compare` writes: {error!r}. Remove it to read {folder / 'runs'}."
        ) from error
    known = known or {}
    return [
        replace(known[path], label=label)
        if (path := folder / cell["folder"]) in known
        else read_run(path, label, error="" if finished(path) else cell["error"])  # it may have come to be since
        for label, cell in labels
    ]


def _label(cell: Mapping[str, Any]) -> Label:
    """Of one line of cells.json. Raises ValueError, KeyError, TypeError where it is not one, or leads out of its folder."""
    method, reward, variant, folder, _ = (
        cell[key].encode().decode() for key in ("method", "reward", "variant", "folder", "error")
    )
    if Path(folder).is_absolute() or ".." in Path(folder).parts or type(cell["seed"]) is not int:
        raise ValueError(f"folder {folder!r}, seed {cell['seed']!r}")
    return Label(method, reward, variant, cell["seed"], cell.get("rewarded"))


def write_comparison(name: str, runs: Sequence[ComparedRun], output: Path, *, samples: int = SAMPLES) -> Comparison:
    """Write results.csv, results.parquet, compare.json and compare.html."""
    output.mkdir(parents=True, exist_ok=True)
    content = build_content(name, runs, beside=output, samples=samples)
    rows = list(long_rows(runs, content["parts"]))
    atomic_write_text(output / RESULTS, csv_text(rows))
    table = parquet_bytes(rows)
    if table is not None:
        atomic_write_bytes(output / "results.parquet", table)
    atomic_write_json(output / "compare.json", content)
    atomic_write_text(output / "compare.html", render(content))
    return Comparison(output, content)


def _name(matrix: Matrix) -> str:
    return str(matrix.base.get("name", "run"))


def _folders(place: Path) -> list[Path]:
    return [item for item in place.iterdir() if item.is_dir()] if place.is_dir() else []


def _known(runs: Path) -> dict[str, Path]:
    """Digest of the settings -> folder of every run that is there, finished ones first."""
    found: dict[str, Path] = {}
    for folder in sorted(_folders(runs)):
        with contextlib.suppress(RunError):
            digest = str(read_manifest(folder).get("fingerprints", {}).get("config"))
            if digest not in found or finished(folder):
                found[digest] = folder
    return found
