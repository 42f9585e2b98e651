"""Runs side by side, each in a process of its own with few threads (`deattrib.runs.child`).

Runs that share original and oracles are not begun together while those are still to be made: the first of them makes the
models, the others find them in the cache. A run that fails is a message, not the end of the others.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deattrib.errors import RunError
from deattrib.runs.folder import read_state
from deattrib.runs.making import python_module
from deattrib.runs.matrix import Cell

Say = Callable[[str], None]
PATIENCE = 0.1  # seconds between looks at the children


@dataclass(frozen=True, slots=True, eq=False)
class _Child:
    cell: Cell
    process: subprocess.Popen[bytes]
    folder: Path
    log: Path
    begun: float


def carry_out(
    work: Sequence[tuple[Cell, Path]], *, jobs: int, cache: Path, logs: Path, say: Say, threads: int = 1
) -> dict[str, str]:
    """Carry out runs, at most `jobs` at a time.

    Args:
        work: each run and its folder, which may hold a run that was cut off; no two with the same settings.
        logs: folder for what the processes print, one file each.
        threads: CPU threads of each.

    Returns:
        The config's digest -> why there is no result, "" for a run that finished.
    """
    waiting, running, seen = list(work), list[_Child](), set[str]()
    errors: dict[str, str] = {}
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            while waiting or running:
                busy = {child.cell.models for child in running} - seen
                ready = next((item for item in waiting if item[0].models not in busy), None)
                if ready is not None and len(running) < jobs:
                    waiting.remove(ready)
                    running.append(_begin(*ready, Path(scratch), logs, cache, threads))
                    say(f"begun     {ready[1].name}")
                    continue
                for child in [child for child in running if child.process.poll() is not None]:
                    running.remove(child)
                    seen.add(child.cell.models)
                    errors[child.cell.config.digest] = error = _error(child)
                    took = f"{time.monotonic() - child.begun:.0f} s"
                    say(f"{'failed' if error else 'finished':9s} {child.log.stem}, {took}{f': {error}' if error else ''}")
                time.sleep(PATIENCE)
        finally:
            for child in running:
                child.process.terminate()
            for child in running:
                child.process.wait()
    return errors


def _begin(cell: Cell, folder: Path, scratch: Path, logs: Path, cache: Path, threads: int) -> _Child:
    path = scratch / f"{cell.config.digest}.json"
    job = {"parent": os.getpid(), "config": cell.config.plain(), "folder": str(folder), "cache": str(cache), "threads": threads}
    path.write_text(json.dumps(job), encoding="utf-8")
    command, environment = python_module("deattrib.runs.child", path)
    log = logs / f"{folder.name}.txt"
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**environment, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,  # Ctrl-C is for this process to answer; it asks the others to end, once
        )
    return _Child(cell, process, folder, log, time.monotonic())


def _error(child: _Child) -> str:
    code = child.process.returncode
    if code == 0 or _finished(child.folder):  # a process may still break while it shuts down: its result is on the disk
        return ""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}; run the same command again to go on with it"
    if code in (130, 143):
        return "interrupted; run the same command again to go on with it"
    lines = child.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return (lines[-1] if lines else f"exit code {code}").removeprefix("error: ")


def _finished(folder: Path) -> bool:
    try:
        return read_state(folder) == "finished"
    except RunError:
        return False
