"""One run in a process of its own, from a job file: begun, or gone on with where its folder has one that was cut off.

    python -m deattrib.runs.child JOB.json

The job is {"parent", "config", "folder", "cache", "threads"}. What happens is printed, one line a stage; a failure is the
last line. The process ends when its parent does; what it has saved by then is gone on with next time.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deattrib.errors import DeattribError, RunError
from deattrib.runs.making import following
from deattrib.runs.signals import exit_code


def can_resume(folder: Path) -> bool:
    """Whether there is a run to go on with; one that was cut off while it was made, or failed in vain, is begun anew."""
    from deattrib.runs.folder import failed_in_vain, read_state

    try:
        return read_state(folder) != "finished" and not failed_in_vain(folder)
    except RunError:
        return False


def main(path: str) -> None:
    """Carry out one job file. Exit codes: 0 done, 1 failed, 130 and 143 ended by a signal."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    code = 0
    with following(job["parent"]):
        try:
            carry_out_job(job, path, arguments=["compare"])
        except DeattribError as error:
            print(f"error: {' '.join(str(error).split())}", flush=True)
            code = 1
        except KeyboardInterrupt as error:
            print(f"error: {error}", flush=True)
            code = exit_code(error)
    sys.exit(code)


def carry_out_job(job: Mapping[str, Any], source: str, *, arguments: Sequence[str]) -> None:
    """Begin the run of a job, or go on with it, printing one line a stage.

    Args:
        job: "config", "folder", "cache" and "threads".
        source: where it is from, for messages.
        arguments: for the manifest.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from deattrib.runs.config import RunConfig
    from deattrib.runs.listener import Listener
    from deattrib.runs.pipeline import run
    from deattrib.runs.validation import validate

    class Log(Listener):
        """Stages and warnings as lines."""

        def stage(self, name: str, detail: str = "") -> None:
            print(f"{name:9s} {detail}", flush=True)

        def warn(self, message: str) -> None:
            print(f"warning: {message}", flush=True)

    torch.set_num_threads(job["threads"])
    folder = Path(job["folder"])
    config = validate(RunConfig, job["config"], source=source)
    going_on = can_resume(folder)
    run(
        config,
        output=None if going_on else folder,
        resume=folder if going_on else None,
        cache=Path(job["cache"]),
        listener=Log(),
        arguments=arguments,
    )


if __name__ == "__main__":
    main(sys.argv[1])
