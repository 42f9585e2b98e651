"""A run killed again and again at random instants, gone on with each time, ends with the numbers of an undisturbed one.

Every round has a cache of its own, in every second one with the models in it, so that the kills fall on making models,
fitting, the loop, checkpoints, evaluation and everything that is written in between.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.runs.tiny import TINY

from deattrib.errors import RunError
from deattrib.runs.folder import read_state

KILLS = int(os.environ.get("DEATTRIB_KILLS", "30"))


# Loads the libraries once and forks a process for every attempt: what is killed is the run, not ten seconds of imports.
SERVER = """
import os, sys
import torch, transformers, trl, peft, sklearn.linear_model
import deattrib.runs.pipeline
from deattrib.cli.main import main
torch.set_num_threads(1)
for line in sys.stdin:
    cache, output, *arguments = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if not child:
        os.environ["DEATTRIB_CACHE"] = cache
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.argv = ["deattrib", "run", *arguments, "--threads", "1"]
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        sys.stdout.flush()
        os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    """Starts runs, each in a process of its own."""

    def __init__(self, output: Path) -> None:
        self.output = output
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def attempt(self, config: Path, folder: Path, cache: Path, *, most: float | None) -> int:
        """Begin the run, or go on where its folder has one; its exit code. It is killed after `most` seconds."""
        try:
            read_state(folder)
            how = ["--resume", str(folder)]
        except RunError:
            how = [str(config), "--output", str(folder)]
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\t".join([str(cache), str(self.output), *how]) + "\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        if most is not None and not select.select([self.process.stdout], [], [], most)[0]:
            os.kill(child, signal.SIGKILL)
        return int(self.process.stdout.readline())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "output.txt")
    yield server
    server.process.kill()
    server.process.communicate()


def stage(folder: Path) -> str:
    """Where the kill fell, as far as the folder shows it."""
    if not (folder / "state.json").exists():
        return "before the folder"
    if not (folder / "events.jsonl").exists():
        return "models and fitting"
    steps = (folder / "events.jsonl").read_text(errors="replace").count('"kind":"step"')
    if (folder / "adapter").exists():
        return "evaluation"
    return "the loop" if steps < 6 else "between loop and evaluation"


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_killed_at_random_instants_and_resumed_to_the_same_bits(tmp_path: Path, server: Server) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**TINY, "model": {**TINY["model"], "oracles": 1}}))
    whole = tmp_path / "whole"
    server.attempt(config, whole, tmp_path / "cache-whole", most=None)
    assert read_state(whole) == "finished", server.output.read_text()
    # Once more now that the libraries are loaded, with a cache of its own and then with the models at hand.
    longest = []
    for number in range(2):
        begin = time.monotonic()
        assert server.attempt(config, tmp_path / f"timed-{number}", tmp_path / "cache-timed", most=None) == 0
        longest.append(time.monotonic() - begin)
    chance = random.Random(int(os.environ.get("DEATTRIB_KILL_SEED", "0")))
    kills, rounds, fell = 0, 0, Counter[str]()
    while kills < KILLS:
        rounds += 1
        folder, cache, warm = tmp_path / f"cut-{rounds}", tmp_path / f"cache-{rounds}", rounds % 2 == 0
        if warm:  # else most of a run is making its models, and so most kills would fall there
            shutil.copytree(tmp_path / "cache-timed" / "models", cache / "models")
        for attempt in itertools.count():
            # The eighth is left alone: a run that is killed soon each time would never get anywhere.
            most = None if attempt == 7 else chance.uniform(0.02, 1.0) * longest[warm]
            code = server.attempt(config, folder, cache, most=most)
            if code != -signal.SIGKILL:
                assert code == 0, server.output.read_text()
                break
            kills += 1
            fell[stage(folder)] += 1
        assert read_state(folder) == "finished"
        assert (folder / "events.jsonl").read_bytes() == (whole / "events.jsonl").read_bytes()
        weights = "adapter/adapter_model.safetensors"
        assert (folder / weights).read_bytes() == (whole / weights).read_bytes()
        rows = [json.loads((path / "metrics.json").read_text())["rows"] for path in (folder, whole)]
        assert rows[0] == rows[1]
        assert not list(folder.rglob(".tmp-*"))
        shutil.rmtree(cache)
    print(f"\n{kills} kills in {rounds} runs: {dict(fell)}")
    assert kills >= KILLS and len(fell) >= 3
