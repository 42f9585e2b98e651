"""Five hundred steps in one process: memory does not grow, neither in the engine alone nor in a run with all around it."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pytest
from tests.ppo.toy import small
from tests.runs.tiny import TINY

from deattrib.runs.config import build_config
from deattrib.runs.listener import Listener
from deattrib.runs.pipeline import run

Make = Any  # the fixture of conftest.py
STEPS = 500
FROM = 50  # until then caches fill and the allocator finds its sizes


def resident() -> int:
    """Bytes of memory that the process holds."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks /proc how much memory the process holds")
def test_memory_does_not_grow_over_five_hundred_steps(make: Make) -> None:
    unlearner = make(small(steps=STEPS, epochs=1))
    held: dict[int, int] = {}
    for step in unlearner:
        if step.number in (FROM, STEPS):
            held[step.number] = resident()
    growth = held[STEPS] / held[FROM] - 1
    print(f"\n{held[FROM] / 2**20:.0f} MiB after {FROM} steps, {held[STEPS] / 2**20:.0f} after {STEPS}: {growth:+.2%}")
    assert growth <= 0.02


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks /proc how much memory the process holds")
def test_memory_does_not_grow_over_a_run_of_five_hundred_steps(tmp_path: Path) -> None:
    """Scorer behind its guard, calibration, event log and a checkpoint every 25 steps included."""
    held: dict[int, int] = {}

    class Ear(Listener):
        def step(self, number: int, total: int, figures: dict[str, float]) -> None:
            if number in (FROM, STEPS):
                held[number] = resident()

    config = build_config(data=TINY, overrides=[f"ppo.steps={STEPS}", "checkpoints.every=25", "model.oracles=0"])
    run(config, output=tmp_path / "run", cache=tmp_path / "cache", listener=Ear())
    growth = held[STEPS] / held[FROM] - 1
    print(f"\n{held[FROM] / 2**20:.0f} MiB after {FROM} steps, {held[STEPS] / 2**20:.0f} after {STEPS}: {growth:+.2%}")
    assert growth <= 0.02
