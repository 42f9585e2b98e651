"""Several models at once on a CPU, one process each: original and oracles differ in their rows and need nothing of each other.

A small model hardly gains from a second thread; two models side by side do. The run goes on as soon as the original is
there; the oracles are wanted only when it is evaluated. Each process is this module run on a job file: it trains one model
into the cache, evaluates it where asked, and ends when its parent does.

    python -m deattrib.runs.making JOB.json
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deattrib.corpus.types import Example
from deattrib.errors import ModelError
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.models.recipes import TrainingSettings
from deattrib.models.settings import ModelSettings

WORTH_A_PROCESS = 4000  # rows trained on, all steps together; below, starting a process takes longer than it saves


@dataclass(frozen=True, slots=True)
class Job:
    """One model to be made: on which rows, by which recipe, and the cache folder it goes to.

    Attributes:
        kept: which rows give a loss, the others only keep their place in a batch and its mean; None: all.
    """

    what: str
    rows: tuple[Example, ...]
    recipe: TrainingSettings
    seed: int
    folder: Path
    kept: tuple[bool, ...] | None = None

    @property
    def done(self) -> bool:
        return is_complete(self.folder)

    @property
    def size(self) -> float:
        """Rows trained on, all steps together."""
        return (self.recipe.steps or self.recipe.epochs * len(self.rows) / self.recipe.batch_size) * self.recipe.batch_size


@dataclass(frozen=True, slots=True)
class Questions:
    """What a made model is asked at once, so that its evaluation is ready when the run wants it."""

    parts: Mapping[str, Sequence[Example]]
    settings: EvaluationSettings


def is_complete(folder: Path) -> bool:
    """Whether a model is in the cache there."""
    return (folder / "complete.json").is_file()


class SideBySide:
    """Jobs being made, each in a process of its own, in the order given and so many at a time.

    Args:
        start: id or folder of the model to train.
        settings: how to load it.
        tokenizer: the run's; where the original was given, it need not be that of `start`.
        threads: CPU threads for all of them; there are never more processes than that at a time.
        questions: what a made model is asked at once.

    Leaving the context ends what is still being made.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        start: str,
        settings: ModelSettings,
        tokenizer: Any,
        cache: Path,
        *,
        threads: int,
        questions: Questions | None,
    ) -> None:
        self.start, self.settings, self.tokenizer, self.cache, self.questions = start, settings, tokenizer, cache, questions
        processes = max(min(len(jobs), threads), 1)
        self.threads = threads // processes
        self._running: list[subprocess.Popen[str]] = []
        self._leaving = False
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(processes)
        self._futures = {job.folder: self._pool.submit(self._make, job) for job in jobs}

    def has(self, job: Job) -> bool:
        """Whether this one is, or was, made here."""
        return job.folder in self._futures

    def wait(self, job: Job) -> None:
        """Until this one is there; nothing where it is not among the jobs.

        Raises:
            ModelError: with the exit code of the failed process and the last line that it wrote.
        """
        if self.has(job):
            self._futures[job.folder].result()

    def check(self) -> None:
        """Raises ModelError as soon as one of the processes has failed; costs nothing."""
        for future in self._futures.values():
            if future.done() and not future.cancelled():
                future.result()

    def _make(self, job: Job) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "job.json"
            self.tokenizer.save_pretrained(Path(scratch) / "tokenizer")
            content = _to_json(job, self.start, self.settings, self.cache, self.threads, self.questions)
            path.write_text(json.dumps(content), encoding="utf-8")
            command, environment = python_module("deattrib.runs.making", path)
            with self._lock:  # or a process that begins while the context is left would be waited for
                if self._leaving:
                    return
                process = subprocess.Popen(
                    command,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is for the run to answer, which ends this process then
                )
                self._running.append(process)
            _, errors = process.communicate()
            if not job.done:  # where only its questions failed, the run asks them itself
                last = (errors.strip().splitlines() or ["it wrote nothing"])[-1]
                raise ModelError(f"Making the {job.what} failed in its own process (exit code {process.returncode}): {last}")

    def __enter__(self) -> SideBySide:
        return self

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._leaving = True
            for process in self._running:
                if process.poll() is None:
                    process.terminate()
        self._pool.shutdown(cancel_futures=True)


def python_module(module: str, job: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a process that runs a module of ours on a job file, with this process' import path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(item for item in sys.path if item)}
    return [sys.executable, "-P", "-m", module, str(job)], environment


def _to_json(
    job: Job, start: str, settings: ModelSettings, cache: Path, threads: int, questions: Questions | None
) -> dict[str, Any]:
    return {
        "parent": os.getpid(),
        "start": start,
        "settings": settings.model_dump(mode="json"),
        "cache": str(cache),
        "threads": threads,
        "rows": [dataclasses.asdict(row) for row in job.rows],
        "recipe": job.recipe.model_dump(mode="json"),
        "seed": job.seed,
        "folder": str(job.folder),
        "kept": job.kept,
        "questions": None
        if questions is None
        else {
            "parts": {name: [dataclasses.asdict(row) for row in rows] for name, rows in questions.parts.items()},
            "settings": questions.settings.model_dump(mode="json"),
        },
    }


def _rows(items: Sequence[Mapping[str, Any]]) -> tuple[Example, ...]:
    return tuple(Example(**{**item, "wrong_responses": tuple(item["wrong_responses"])}) for item in items)


def main(path: str) -> None:
    """Carry out one job file."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    with following(job["parent"]):
        _carry_out(job, Path(path).parent)


def _carry_out(job: Mapping[str, Any], scratch: Path) -> None:
    import torch

    from deattrib.models.language_model import LanguageModel, fingerprint
    from deattrib.models.loading import load_model, load_tokenizer, make_codec
    from deattrib.models.threads import one_thread_if_small
    from deattrib.models.training import fine_tune
    from deattrib.runs.evaluated import evaluate_cached
    from deattrib.runs.maker import its_turn, store

    torch.set_num_threads(max(job["threads"], 1))
    settings = ModelSettings.model_validate(job["settings"])
    tokenizer = load_tokenizer(str(scratch / "tokenizer"), settings.model_copy(update={"gguf_file": None}))
    codec = make_codec(tokenizer, settings)
    model = load_model(job["start"], settings).requires_grad_(True)
    folder = Path(job["folder"])
    recipe = TrainingSettings.model_validate(job["recipe"])
    with one_thread_if_small(model):
        with its_turn(folder):
            made = is_complete(folder)  # by another run, while this one waited
            if not made:
                begin = time.perf_counter()
                model = fine_tune(model, codec, _rows(job["rows"]), recipe, seed=job["seed"], kept=job["kept"])
                store(model, tokenizer, folder, seconds=time.perf_counter() - begin)
        if job["questions"] is not None:
            parts = {name: _rows(items) for name, items in job["questions"]["parts"].items()}
            asked = EvaluationSettings.model_validate(job["questions"]["settings"])
            if made or next(model.parameters()).dtype != getattr(torch, settings.dtype):  # as the run will have it
                model = load_model(str(folder), settings.model_copy(update={"gguf_file": None}))
            frozen = LanguageModel(model, codec)
            evaluate_cached(frozen, parts, asked, weights=fingerprint(model), cache=Path(job["cache"]))


@contextmanager
def following(parent: int) -> Iterator[None]:
    """Inside, this process ends when its parent has: nobody waits for the result then."""
    left = threading.Event()

    def follow() -> None:
        while not left.wait(1.0):
            if os.getppid() != parent:
                os._exit(1)

    thread = threading.Thread(target=follow, daemon=True, name="deattrib-parent")
    thread.start()
    try:
        yield
    finally:  # a thread that still ran while the interpreter shuts down could abort it
        left.set()
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1])
