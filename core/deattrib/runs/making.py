"""Several models at once on a CPU, one process each: original and oracles differ in their rows and need nothing of each other.

A small model hardly gains from a second thread; two models side by side do. Each process is this module run on a job
file: it trains one model into the cache, evaluates it where asked, and ends when its parent does.

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
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
        kept: which rows give a loss, the others only keep their place in the order of batches; None: all.
    """

    what: str
    rows: tuple[Example, ...]
    recipe: TrainingSettings
    seed: int
    folder: Path
    kept: tuple[bool, ...] | None = None

    @property
    def done(self) -> bool:
        return (self.folder / "complete.json").is_file()

    @property
    def size(self) -> float:
        """Rows trained on, all steps together."""
        return (self.recipe.steps or self.recipe.epochs * len(self.rows) / self.recipe.batch_size) * self.recipe.batch_size


@dataclass(frozen=True, slots=True)
class Questions:
    """What a made model is asked at once, so that its evaluation is ready when the run wants it."""

    parts: Mapping[str, Sequence[Example]]
    settings: EvaluationSettings


def make_side_by_side(
    jobs: Sequence[Job],
    start: str,
    settings: ModelSettings,
    tokenizer: Any,
    cache: Path,
    *,
    threads: int,
    questions: Questions | None,
) -> None:
    """Make all of `jobs`, as many at a time as there are threads.

    Args:
        start: id or folder of the model to train.
        tokenizer: the run's; where the original was given, it need not be that of `start`.
        threads: CPU threads for all of them together.

    Raises:
        ModelError: with the exit code of a failed process and the last line that it wrote.
    """
    workers = min(len(jobs), threads)
    running: list[subprocess.Popen[str]] = []

    def make(job: Job) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "job.json"
            tokenizer.save_pretrained(Path(scratch) / "tokenizer")
            path.write_text(json.dumps(_to_json(job, start, settings, cache, threads // workers, questions)), encoding="utf-8")
            command, environment = python_module("deattrib.runs.making", path)
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
            )  # fmt: skip
            running.append(process)
            _, errors = process.communicate()
            if process.returncode or not job.done:
                last = (errors.strip().splitlines() or ["it wrote nothing"])[-1]
                raise ModelError(f"Making the {job.what} failed in its own process (exit code {process.returncode}): {last}")

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(make, job) for job in jobs]
        try:
            for future in futures:
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            for process in running:
                process.terminate()
            raise


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
    threading.Thread(target=follow_parent, args=(job["parent"],), daemon=True).start()
    import torch

    from deattrib.models.language_model import LanguageModel, fingerprint
    from deattrib.models.loading import load_model, load_tokenizer, make_codec
    from deattrib.models.training import fine_tune
    from deattrib.runs.evaluated import evaluate_cached
    from deattrib.runs.prepare import store

    torch.set_num_threads(max(job["threads"], 1))
    settings = ModelSettings.model_validate(job["settings"])
    tokenizer = load_tokenizer(str(Path(path).parent / "tokenizer"), settings.model_copy(update={"gguf_file": None}))
    codec = make_codec(tokenizer, settings)
    model = load_model(job["start"], settings).requires_grad_(True)
    begin = time.perf_counter()
    recipe = TrainingSettings.model_validate(job["recipe"])
    model = fine_tune(model, codec, _rows(job["rows"]), recipe, seed=job["seed"], kept=job["kept"])
    store(model, tokenizer, Path(job["folder"]), seconds=time.perf_counter() - begin)
    if job["questions"] is not None:
        parts = {name: _rows(items) for name, items in job["questions"]["parts"].items()}
        asked = EvaluationSettings.model_validate(job["questions"]["settings"])
        frozen = LanguageModel(model, codec)
        evaluate_cached(frozen, parts, asked, weights=fingerprint(model), cache=Path(job["cache"]))


def follow_parent(parent: int) -> None:
    """End when the parent has: nobody waits for the result then. For a thread of its own."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
