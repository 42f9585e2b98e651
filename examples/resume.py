"""A run that is killed in the middle and goes on to the very numbers of one that was left alone.

    python examples/resume.py [--tiny]

From a shell it is `deattrib run --resume FOLDER`. Here a child process plays the run, and gets SIGKILL: no warning, no tidying.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

from _world import arguments, config

from deattrib import Listener, run


def killed(tiny: bool, output: Path) -> None:
    """A run that dies right after the step in the middle."""

    class Fate(Listener):
        def step(self, number: int, total: int, figures: dict[str, Any]) -> None:
            if number == total // 2 + 1:
                os.kill(os.getpid(), signal.SIGKILL)

    run(config(tiny), output=output, listener=Fate())


def main() -> None:
    options = arguments(__doc__)
    whole = run(config(options.tiny), output=options.output / "whole")
    child = multiprocessing.get_context("spawn").Process(target=killed, args=(options.tiny, options.output / "cut"))
    child.start()
    child.join()
    print(f"the second run ended with exit code {child.exitcode}")

    resumed = run(None, resume=options.output / "cut")

    same = resumed.metrics["rows"] == whole.metrics["rows"]
    events = [(folder / "events.jsonl").read_bytes() for folder in (whole.folder, resumed.folder)]
    print(f"the same metrics: {same}; the same events to the byte: {events[0] == events[1]}")


if __name__ == "__main__":
    main()
