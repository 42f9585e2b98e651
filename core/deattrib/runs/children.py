"""Runs side by side: who may begin, what came of each. How a run is begun is a launcher's affair.

`ProcessLauncher` gives each run a process of its own with one thread (`deattrib.runs.child`); `runs/sweeps.py` submits it
as a job. Runs that share original and oracles are not begun together while those are still to be made: the first of them
makes the models, the others find them in the cache. A run that fails is a message, not the end of the others.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

from deattrib.errors import RunError
from deattrib.runs.folder import read_state
from deattrib.runs.listener import Say
from deattrib.runs.making import python_module
from deattrib.runs.matrix import Cell

PATIENCE = 0.1  # seconds between looks at what runs


class Running(Protocol):
    """A run that was begun."""

    def ended(self) -> bool:
        """Whether it is over, however it ended."""

    def error(self) -> str:
        """Of one that is over: why there is no result; "" for a run that finished."""


class Launcher(Protocol):
    """A way to begin runs.

    Attributes:
        patience: seconds between looks at what runs.
    """

    patience: float

    def begin(self, cell: Cell, folder: Path) -> Running:
        """Begin a run, or go on where its folder has one that was cut off."""

    def leave(self, running: Sequence[Running]) -> None:
        """The command is over; `running` is not empty where it was interrupted."""


def carry_out(
    work: Sequence[tuple[Cell, Path]],
    *,
    jobs: int,
    launcher: Launcher,
    say: Say,
    gather: Callable[[], object] = lambda: None,
    made: Collection[str] = (),
) -> dict[str, str]:
    """Carry out runs, at most `jobs` at a time.

    Args:
        work: each run and its folder, which may hold a run that was cut off; no two with the same settings.
        gather: called after each run that finished.
        made: the models (`Cell.models`) that need not be waited for.

    Returns:
        The config's digest -> why there is no result, "" for a run that finished.
    """
    waiting, running, seen = list(work), list[tuple[Cell, Path, Running, float]](), set(made)
    errors: dict[str, str] = {}
    try:
        while waiting or running:
            seen |= {cell.models for cell, folder, *_ in running if in_loop(folder)}
            busy = {cell.models for cell, *_ in running} - seen
            ready = next((item for item in waiting if item[0].models not in busy), None)
            if ready is not None and len(running) < jobs:
                waiting.remove(ready)
                running.append((*ready, launcher.begin(*ready), time.monotonic()))
                say(f"begun     {ready[1].name}")
                continue
            for one in [one for one in running if one[2].ended()]:
                cell, folder, run, begun = one
                running.remove(one)
                errors[cell.config.digest] = error = run.error()
                took = f"{time.monotonic() - begun:.0f} s"
                say(f"{'failed' if error else 'finished':9s} {folder.name}, {took}{f': {error}' if error else ''}")
                if not error:
                    seen.add(cell.models)
                    gather()
            time.sleep(launcher.patience)
    finally:
        launcher.leave([run for _, _, run, _ in running])
    return errors


def job_of(cell: Cell, folder: Path, cache: Path, threads: int) -> dict[str, Any]:
    """What `deattrib.runs.child` reads; it ends with this process."""
    config = cell.config.plain()
    return {"parent": os.getpid(), "config": config, "folder": str(folder), "cache": str(cache), "threads": threads}


class ProcessLauncher:
    """Runs as processes of this one, which end when it does.

    Args:
        cache: of made models.
        logs: folder for what the processes print, one file each.
    """

    patience = PATIENCE
    threads = 1  # of each run, on the CPU

    def __init__(self, cache: Path, logs: Path) -> None:
        self.cache, self.logs = cache, logs
        self._scratch = tempfile.TemporaryDirectory()

    def begin(self, cell: Cell, folder: Path) -> Child:
        self.logs.mkdir(parents=True, exist_ok=True)
        path = Path(self._scratch.name) / f"{cell.config.digest}.json"
        path.write_text(json.dumps(job_of(cell, folder, self.cache, self.threads)), encoding="utf-8")
        command, environment = python_module("deattrib.runs.child", path)
        log = self.logs / f"{folder.name}.txt"
        with log.open("ab") as file:
            process = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**environment, "OMP_NUM_THREADS": str(self.threads)},
                start_new_session=True,  # Ctrl-C is for this process to answer; it asks the others to end, once
            )
        return Child(process, folder, log)

    def leave(self, running: Sequence[Running]) -> None:
        children = [run for run in running if isinstance(run, Child)]
        for child in children:
            child.process.terminate()
        for child in children:
            child.process.wait()
        self._scratch.cleanup()


class Child:
    """A run in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
        self.process, self.folder, self.log = process, folder, log

    def ended(self) -> bool:
        return self.process.poll() is not None

    def error(self) -> str:
        code = self.process.returncode
        if finished(self.folder):  # a process may still break while it shuts down: its result is on the disk
            return ""
        if code < 0:
            return f"ended by {signal.Signals(-code).name}; run the same command again to go on with it"
        if code in (130, 143):
            return "interrupted; run the same command again to go on with it"
        return last_line(self.log) or (f"exit code {code}" if code else "it ended without a result")


def last_line(log: Path) -> str:
    """Of what a run printed, which is its error where it failed; "" where it printed nothing."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return (lines[-1] if lines else "").removeprefix("error: ")


def in_loop(folder: Path) -> bool:
    """Whether the run's loop has begun, for which its original model had to be there; oracles in the making have a lock."""
    try:
        return (folder / "events.jsonl").stat().st_size > 0
    except OSError:
        return False


def finished(folder: Path) -> bool:
    """Whether the folder has a run with its results."""
    try:
        return read_state(folder) == "finished"
    except RunError:
        return False
