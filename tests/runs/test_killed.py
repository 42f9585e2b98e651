"""A run killed again and again at random instants, gone on with each time, ends with the numbers of an undisturbed one.

Every round has a cache of its own, so that the kills fall on making models, fitting, the loop, checkpoints, evaluation and
everything that is written in between.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from tests.runs.tiny import TINY

from deattrib.errors import RunError
from deattrib.runs.folder import read_state

KILLS = int(os.environ.get("DEATTRIB_KILLS", "30"))


def start(config: Path, folder: Path, cache: Path) -> subprocess.Popen[bytes]:
    """Begin the run, or go on with it where its folder says that there is one."""
    try:
        read_state(folder)
        how = ["--resume", str(folder)]
    except RunError:
        how = [str(config), "--output", str(folder)]
    environment = {**os.environ, "DEATTRIB_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "deattrib", "run", *how, "--threads", "1"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


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
def test_killed_at_random_instants_and_resumed_to_the_same_bits(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**TINY, "model": {**TINY["model"], "oracles": 1}}))
    whole = tmp_path / "whole"
    begin = time.monotonic()
    process = start(config, whole, tmp_path / "cache-whole")
    output, _ = process.communicate()
    assert process.returncode == 0, output.decode()
    longest = time.monotonic() - begin
    chance = random.Random(int(os.environ.get("DEATTRIB_KILL_SEED", "0")))
    kills, rounds, fell = 0, 0, Counter[str]()
    while kills < KILLS:
        rounds += 1
        folder, cache = tmp_path / f"cut-{rounds}", tmp_path / f"cache-{rounds}"
        attempts = 0
        while True:
            process = start(config, folder, cache)
            try:
                # Not all of the time at once: a run that is killed soon each time would never get anywhere.
                process.communicate(timeout=None if attempts >= 8 else chance.uniform(0.05, 1.0) * longest)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.communicate()
                kills += 1
                fell[stage(folder)] += 1
            else:
                assert process.returncode == 0
                break
            attempts += 1
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
