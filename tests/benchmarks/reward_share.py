"""What share of a step's time the reward takes, by scorer.

    python -m tests.benchmarks.reward_share RUN ...            run folders that are there
    python -m tests.benchmarks.reward_share --demo NAME ...    the demo's first steps with each scorer, in a folder of its own

Read from `timings.jsonl`, which a run writes: seconds of every step, and of those the seconds inside the scorer. The first
step is left out. Wall time of both, so that whatever else the machine does counts in both alike. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from deattrib.runs.events import read_events

MOST = 0.15  # share that every scorer but `exact` should stay below


def share(run: Path) -> dict[str, float]:
    """Medians over a run's steps, in seconds, and the scorer's share of all steps together."""
    steps = [one for one in read_events(run / "timings.jsonl") if one["kind"] == "step" and "reward" in one][1:]
    if not steps:
        raise SystemExit(f"{run}: no timings of the reward; it must be a run of at least two steps of this version.")
    seconds, reward = [one["seconds"] for one in steps], [one["reward"] for one in steps]
    return {
        "steps": len(steps),
        "step_seconds": round(statistics.median(seconds), 4),
        "reward_seconds": round(statistics.median(reward), 4),
        "share": round(sum(reward) / sum(seconds), 4),
    }


def demo(name: str, folder: Path, steps: int) -> Path:
    """A short demo with that reward. Raises SystemExit with what it said where it has no timings."""
    output = folder / name
    command = [sys.executable, "-m", "deattrib", "demo", "--reward", name, "--threads", "1", "--output", str(output)]
    command += ["--set", f"ppo.steps={steps}", "--set", "model.oracles=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not (output / "timings.jsonl").exists():
        raise SystemExit(f"{name}: {(done.stderr or done.stdout)[-2000:]}")
    return output


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--demo", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--steps", type=int, default=6)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, dict[str, float]] = {run.name: share(run) for run in given.runs}
        failed: dict[str, str] = {}
        for name in given.demo:
            try:
                found[name] = share(demo(name, Path(folder), given.steps))
                print(f"{name}: {found[name]}", file=sys.stderr)
            except SystemExit as error:  # costs none of the others
                failed[name] = str(error)
    above = [name for name, one in found.items() if one["share"] > MOST]
    print(json.dumps({"runs": found, "most": MOST, "above": above, "failed": failed}))


if __name__ == "__main__":
    main()
