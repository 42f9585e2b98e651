"""Two programs in turn, a step at a time: whatever else the machine does, it does to both alike.

A worker is a process that waits for a line on its standard input, does one step, and answers with one line of JSON. What
counts is the CPU time that it says it took, not the time that passed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MARK = "#step "  # other lines of a worker are not for us


def serve(step: Callable[[], Mapping[str, Any]]) -> None:
    """The worker's side: a step for every line that comes."""
    for _ in sys.stdin:
        start, wall = time.process_time(), time.perf_counter()
        told = step()
        say({"cpu": time.process_time() - start, "wall": time.perf_counter() - wall, **told})


def say(answer: Mapping[str, Any]) -> None:
    """One answer."""
    print(MARK + json.dumps(answer), flush=True)


class Worker:
    """A process that does a step when it is told to."""

    def __init__(self, command: Sequence[str]) -> None:
        quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
        one = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
        self.command = list(command)
        self.said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - a pipe could fill up
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True, cwd=ROOT,
            env={**os.environ, **quiet, **one},
        )  # fmt: skip

    def step(self) -> dict[str, Any]:
        """Have one step done. Raises RuntimeError with what the process said last if it is gone."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the reason is on its standard error
        for line in self.process.stdout:
            if line.startswith(MARK):
                answer: dict[str, Any] = json.loads(line.removeprefix(MARK))
                return answer
        self.process.wait()
        self.said.seek(0)
        raise RuntimeError(f"{' '.join(self.command)} ended:\n{self.said.read()[-2000:]}")

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self.said.close()


@contextmanager
def workers(commands: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Worker]]:
    """Name -> worker, ended at the end."""
    started: dict[str, Worker] = {}
    try:
        for name, command in commands.items():
            started[name] = Worker(command)
        yield started
    finally:
        for worker in started.values():
            worker.close()


def in_turn(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Every worker's answers; one step of each per round, after a first one that warms it up.

    Of rounds that are whole: a worker that dies after the first of them ends the comparison, and why is told on standard error.
    """
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    with workers(commands) as started:
        for worker in started.values():
            worker.step()
        for number in range(rounds):
            order = list(started) if number % 2 == 0 else list(reversed(started))
            try:
                found = {name: started[name].step() for name in order}
            except RuntimeError as error:
                if not number:
                    raise
                print(f"{number} of {rounds} rounds: {error}", file=sys.stderr)
                break
            for name, answer in found.items():
                answers[name].append(answer)
    return answers


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Median, smallest and largest."""
    found = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {name: round(value, digits) for name, value in found.items()}
