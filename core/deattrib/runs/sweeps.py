"""Runs as jobs of `submitit`: on a cluster by SLURM, or on this machine as SLURM would run them (extra `sweeps`).

One job per configuration hash. A job that is preempted or out of time (submitit's signal, SIGUSR2) finishes the step that it
is in, saves, and is queued again under the same id; one that was killed goes on when the same command is given again. Both
times the run's own checkpoints are what is gone on from, so a job may end anywhere.

    OUTPUT/jobs/DIGEST.json       what the job reads: config, run folder, cache
    OUTPUT/jobs/DIGEST.slurm.json the id under which it was last submitted, so that a second command waits instead of submitting
    OUTPUT/jobs/submitit/         submitit's own: scripts, logs, and pickles of `Run("OUTPUT/jobs/DIGEST.json")`
    OUTPUT/logs/NAME.txt          what the run printed, as with processes

Pickles are written for and read by submitit in the job alone: what came of a run is read from its folder, never from
submitit's result.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from deattrib.errors import ConfigError, RunError
from deattrib.runs.atomic import atomic_write_json
from deattrib.runs.child import carry_out_job
from deattrib.runs.children import Running, finished, job_of, last_line
from deattrib.runs.listener import Say
from deattrib.runs.lock import in_use
from deattrib.runs.matrix import Cell
from deattrib.runs.signals import Interrupted

KINDS = ("local", "slurm")
MINUTES = {"local": 7 * 24 * 60, "slurm": 4 * 60}  # submitit's own are 2 and 5
REQUEUES = 100  # after running out of time
GONE_ON = "run the same command again to go on with it"
WAITS = {"local": 0.5, "slurm": 5.0}


class Jobs:
    """A launcher (`runs/children.py`) of submitit's jobs.

    Args:
        kind: "local" or "slurm".
        settings: submitit's parameters: timeout_min, cpus_per_task, gpus_per_node, mem_gb, slurm_partition, ...
        output: folder of the comparison; on a cluster one that all nodes see.
        cache: of made models, likewise.
        say: is told of jobs that outlive the command.

    Raises:
        ConfigError: submitit is not installed, or does not know a parameter.
        RunError: there is no SLURM here.
    """

    def __init__(self, kind: str, settings: Mapping[str, Any], *, output: Path, cache: Path, say: Say) -> None:
        self.kind, self.output, self.cache, self.say = kind, output.absolute(), cache.absolute(), say
        self.patience = WAITS[kind]
        threads = settings.get("cpus_per_task") or 1
        if not isinstance(threads, int):
            raise ConfigError(f"--executor-set cpus_per_task={threads}: expected a whole number.")
        self.threads = threads
        self._executor = _executor(kind, settings, self.output / "jobs" / "submitit")

    def begin(self, cell: Cell, folder: Path) -> Job:
        path = self.output / "jobs" / f"{cell.config.digest}.json"
        log = self.output / "logs" / f"{folder.name}.txt"
        known = self._known(path)
        if known is not None:
            self.say(f"waiting   {folder.name}: submitted before as job {known.job_id}")
            return Job(folder, log, known)
        if in_use(folder):
            self.say(f"waiting   {folder.name}: it is still running from before")
            return Job(folder, log, None)
        for place in (path.parent, log.parent):
            place.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, {**job_of(cell, folder.absolute(), self.cache, self.threads), "log": str(log)})
        with _environment(self.threads):
            job = self._executor.submit(Run(str(path)))
        if self.kind == "slurm":
            atomic_write_json(path.with_suffix(".slurm.json"), {"job": job.job_id})
        return Job(folder, log, job)

    def _known(self, path: Path) -> Any:
        """The job under which a run was submitted before, where that one still waits or runs."""
        try:
            number = json.loads(path.with_suffix(".slurm.json").read_text(encoding="utf-8"))["job"]
        except (OSError, ValueError, KeyError):
            return None
        import submitit

        job = submitit.SlurmJob[None](folder=self._executor.folder, job_id=str(number))
        alive = job.watcher.get_state(job.job_id, mode="force").upper() not in ("", "UNKNOWN")
        return job if alive and not job.done(force_check=True) else None

    def leave(self, running: Sequence[Running]) -> None:
        """Jobs of this machine end with the command; those of a cluster go on, and the same command waits for them."""
        left = [run.job for run in running if isinstance(run, Job) and run.job is not None]
        if self.kind == "slurm" and left:
            numbers = " ".join(job.job_id for job in left)
            self.say(f"{len(left)} jobs go on; the same command waits for them, `scancel {numbers}` ends them")
            return
        for job in left:
            with contextlib.suppress(OSError):
                job.cancel(check=False)


class Job:
    """A run that was submitted, or (without a job) that another command began here."""

    def __init__(self, folder: Path, log: Path, job: Any) -> None:
        self.folder, self.log, self.job = folder, log, job

    def ended(self) -> bool:
        return bool(self.job.done()) if self.job is not None else not in_use(self.folder)

    def error(self) -> str:
        if finished(self.folder):
            return ""
        said = last_line(self.log)
        if self.job is None or not self.job.paths.result_pickle.exists() or said.startswith("ended by "):
            state = f" (job {self.job.job_id}: {self.job.state})" if self.job is not None else ""
            return f"ended before it was finished{state}; {GONE_ON}"
        return said or f"no result; see {self.job.paths.stderr}"


class Run:
    """What a job does. submitit pickles it: a class by name and one string."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self) -> None:
        """Raises DeattribError: the run failed; submitit writes it down."""
        job = json.loads(Path(self.path).read_text(encoding="utf-8"))
        if not finished(Path(job["folder"])):  # a job may be queued again when it was just done
            with _Requeue() as requeue, _printed(Path(job["log"])):
                carry_out_job(job, self.path, arguments=["compare"])
            if requeue.asked:
                requeue.pass_on()

    def checkpoint(self) -> Any:
        """What is to be done when the job is queued again: the same, which then goes on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class _Requeue:
    """Turns submitit's signal into SIGTERM, at which a run finishes and saves its step, and lets submitit act after that."""

    def __init__(self) -> None:
        self.asked = False
        self._submitit: Any = None

    def __enter__(self) -> _Requeue:
        from submitit.core.job_environment import JobEnvironment

        self._number = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
        self._submitit = signal.getsignal(self._number)
        signal.signal(self._number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _traceback: object) -> bool:
        signal.signal(self._number, self._submitit)
        return self.asked and isinstance(error, Interrupted)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            os.kill(os.getpid(), signal.SIGTERM)

    def pass_on(self) -> None:
        """To submitit, which queues the job again and ends the process."""
        os.kill(os.getpid(), self._number)


@contextlib.contextmanager
def _printed(log: Path) -> Iterator[None]:
    """What is printed goes to the end of a file; an error is its last line."""
    kept = os.dup(1), os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    except BaseException as error:
        print(f"error: {' '.join(str(error).split())}", flush=True)
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """The import path and threads of this process for a job; both executors hand down the environment."""
    path = os.pathsep.join(item for item in sys.path if item)
    new = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": str(threads)}
    before = {name: os.environ.get(name) for name in new}
    os.environ.update(new)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def _executor(kind: str, settings: Mapping[str, Any], folder: Path) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ConfigError(f"--executor {kind} needs submitit: pip install 'deattrib[sweeps]'.") from error
    given = {"name": "deattrib", "timeout_min": MINUTES[kind], **settings}
    requeues = {f"{kind}_max_num_timeout": given.pop("max_num_timeout", REQUEUES)}
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=kind, **requeues)
        executor.update_parameters(**given)
    except RuntimeError as error:
        raise RunError(f"--executor {kind}: {error}") from error
    except (NameError, ValueError, AssertionError, TypeError) as error:
        raise ConfigError(f"--executor-set for {kind}: {' '.join(str(error).split())}") from error
    return executor
