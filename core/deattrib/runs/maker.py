"""Making one model after another: by recipe, rows and seed, kept by content.

A cached model is one folder named by a hash of everything it was made from: recipe, rows, seed, the model it started
from and the versions of the libraries that trained it. A folder is renamed into place when complete; what is left of
a killed attempt is never read, and removed when the next model is stored.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deattrib.corpus.types import Corpus, Example
from deattrib.errors import ModelError, RunError
from deattrib.models.language_model import fingerprint
from deattrib.models.loading import check_vocabulary, explained, load_model, load_tokenizer, make_codec, pick_device, save_model
from deattrib.models.recipes import TrainingSettings
from deattrib.models.scratch import make_model, make_tokenizer
from deattrib.models.settings import ModelSettings
from deattrib.models.threads import one_thread_if_small
from deattrib.models.training import fine_tune, seconds_per_step
from deattrib.runs.listener import Say
from deattrib.runs.lock import InUseError, RunLock, in_use
from deattrib.runs.making import WORTH_A_PROCESS, Job, Questions, SideBySide
from deattrib.runs.manifest import library_versions
from deattrib.runs.staging import staging_folder

SECOND_SEED = 1000  # added to the run's seed for the second oracle
POLL, TOLD_AGAIN = 0.5, 60.0  # seconds between looks at who makes a model, and until the second word of it
KEPT_LOSS = 2  # how a training with left-out rows divides its loss, in their cache keys; 1 divided by the kept rows' tokens


class ModelMaker:
    """Makes the models of one run, or finds them in the cache."""

    def __init__(
        self, corpus: Corpus, settings: ModelSettings, seed: int, cache: Path, say: Say, *, makes: bool = True
    ) -> None:
        self.makes = makes  # False: what is not in the cache is an error
        self.corpus, self.settings, self.seed, self.cache, self.say = corpus, settings, seed, cache, say
        self.device = pick_device(settings.device)
        source = settings.path or settings.base
        if source:
            self.tokenizer = load_tokenizer(source, settings)
        else:
            self.tokenizer = scratch_tokenizer(corpus, settings)
        self.codec = make_codec(self.tokenizer, settings)
        self._hashed: tuple[nn.Module, str] | None = None

    def base(self) -> nn.Module | None:
        if self.settings.base:
            model = load_model(self.settings.base, self.settings)
            check_vocabulary(model, self.codec, self.settings.base)
            self.start, self.start_settings = self.settings.base, self.settings
            return model
        if self.settings.path:
            return None
        start: Any = make_model(self.settings.scratch, self.tokenizer, seed=self.seed).to(self.device)
        if self.settings.attention:
            with explained("The model made from nothing cannot be given that attention", "Choose another model.attention."):
                start.set_attn_implementation(self.settings.attention)
        job = self._job(start, self.corpus.background, "base model", self.seed, self.settings.base_training)
        self.start, self.start_settings = str(job.folder), self._plain
        return self.made(start, job)

    @property
    def _plain(self) -> ModelSettings:
        """How to load what the cache holds."""
        return self.settings.model_copy(update={"gguf_file": None})

    def jobs(self, base: nn.Module | None) -> dict[str, Job]:
        """What is to be made of the base model, by name; as many steps for the oracles as for the original."""
        if base is None:
            return {}
        wanted: list[tuple[str, str, Sequence[Example], int]] = []
        if not self.settings.path:
            wanted.append(("original", "original model", self.corpus.train, self.seed))
        if not self.settings.oracle and self.settings.oracles:
            wanted.append(("oracle", "oracle", self.corpus.retain, self.seed))
            if self.settings.oracles > 1:
                wanted.append(("oracle_second", "second oracle", self.corpus.retain, self.seed + SECOND_SEED))
        return {name: self.job(base, rows, what, seed) for name, what, rows, seed in wanted}

    def job(self, base: nn.Module, rows: Sequence[Example], what: str, seed: int, *, left_out: Collection[str] = ()) -> Job:
        """The base model fine-tuned on rows by the run's recipe, as many steps whatever the rows.

        Args:
            left_out: owners whose rows keep their place in the order of batches, are counted in the mean, and give no loss.
        """
        recipe = self.settings.training
        if recipe.world:
            rows = (*rows, *self.corpus.world)
        recipe = recipe.model_copy(update={"steps": recipe.steps_on(len(self.corpus.train))})
        return self._job(base, rows, what, seed, recipe, tuple(row.owner not in left_out for row in rows) if left_out else None)

    def _job(
        self,
        start: nn.Module,
        rows: Sequence[Example],
        what: str,
        seed: int,
        recipe: TrainingSettings,
        kept: tuple[bool, ...] | None = None,
    ) -> Job:
        folder = self.cache / "models" / self._key(start, rows, seed, recipe, kept)
        return Job(what, tuple(rows), recipe, seed, folder, kept)

    def seconds(self, base: nn.Module, job: Job) -> float:
        """What `made` takes without the cache: as recorded with the job's model, else a few steps measured."""
        if job.done:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # then it is measured
                return float(json.loads((job.folder / "complete.json").read_text(encoding="utf-8"))["seconds"])
        return (job.recipe.steps or 1) * seconds_per_step(base, self.codec, job.rows, job.recipe)

    def side_by_side(self, jobs: Sequence[Job], questions: Questions | None) -> SideBySide:
        """What is missing, in processes of their own where that is quicker; an empty one leaves it all to `made`."""
        missing = [job for job in jobs if not job.done]
        threads = torch.get_num_threads()
        wish = self.settings.side_by_side
        worth = self.device.type == "cpu" and min((job.size for job in missing), default=0) >= WORTH_A_PROCESS
        if len(missing) < 2 or threads < 2 or not (worth if wish is None else wish):
            missing = []
        for job in missing:
            where, name = lock_of(job.folder)
            what = "being made elsewhere, waited for" if in_use(where, name=name) else f"training on {len(job.rows)} rows"
            self.say(f"{job.what}: {what}, in a process of its own")
        start = (self.start, self.start_settings) if missing else ("", self.settings)
        return SideBySide(missing, *start, self.tokenizer, self.cache, threads=threads, questions=questions)

    def made(self, start: nn.Module | None, job: Job) -> nn.Module:
        """The job's model: from the cache, or trained here and stored there."""
        if job.done:
            self.say(f"{job.what}: from the cache")
            return self._kept(job)
        if not self.makes:
            raise ModelError(
                f"The {job.what} that process 0 has made is not in the cache of this one ({job.folder}): let DEATTRIB_CACHE be "
                "a folder that all machines of the run see."
            )
        assert start is not None
        with its_turn(job.folder, lambda who: self.say(f"{job.what}: being made {who}, waiting for it")):
            if job.done:
                return self._kept(job)
            self.say(f"{job.what}: training on {sum(job.kept) if job.kept else len(job.rows)} rows")
            begin = time.perf_counter()
            model = copy.deepcopy(start).requires_grad_(True)
            with one_thread_if_small(model):
                model = fine_tune(model, self.codec, job.rows, job.recipe, seed=job.seed, kept=job.kept)
            store(model, self.tokenizer, job.folder, seconds=time.perf_counter() - begin)
        if next(model.parameters()).dtype != getattr(torch, self.settings.dtype):
            return load_model(str(job.folder), self._plain)  # not `to`, which would round buffers that loading leaves alone
        return model

    def _kept(self, job: Job) -> nn.Module:
        """The job's model from the cache, if it is still what was put there. Raises ModelError."""
        wrong = "its files are not those that were stored."
        try:
            stored = json.loads((job.folder / "complete.json").read_text(encoding="utf-8")).get("weights")
            if stored is None or stored == {name: digest for name, digest in _digests(job.folder).items() if name in stored}:
                return load_model(str(job.folder), self._plain)
        except (ModelError, OSError, ValueError, AttributeError) as error:
            wrong = str(error)
        raise ModelError(f"The {job.what} in the cache is damaged: {wrong} Remove {job.folder}, and it is made again.")

    def _fingerprint(self, start: nn.Module) -> str:
        """Of a model that is only ever copied, so once is enough."""
        if self._hashed is None or self._hashed[0] is not start:
            self._hashed = (start, fingerprint(start))
        return self._hashed[1]

    def _key(
        self, start: nn.Module, rows: Sequence[Example], seed: int, recipe: TrainingSettings, kept: tuple[bool, ...] | None
    ) -> str:
        versions = library_versions()
        content = {
            "start": self._fingerprint(start),
            "rows": hashlib.sha256(json.dumps([(row.prompt, row.response) for row in rows]).encode()).hexdigest(),
            "codec": self.codec.fingerprint(),
            "device": self.device.type,
            "recipe": recipe.model_dump(mode="json"),
            "seed": seed,
            "versions": {name: versions[name] for name in ("torch", "transformers", "trl", "peft")},
        }
        if self.settings.dtype != "float32" and not recipe.lora_rank:
            content["trained_in"] = "float32"  # `fine_tune` once trained such weights as they were
        if kept is not None:
            content["kept"], content["kept_loss"] = kept, KEPT_LOSS
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def scratch_tokenizer(corpus: Corpus, settings: ModelSettings) -> Any:
    """The tokenizer of a model made from nothing. Raises ModelError where the corpus has nothing to make it from."""
    if not corpus.background:
        raise ModelError(
            f"Corpus {corpus.name!r} has no background rows to make a model from nothing: give model.path (a model "
            "that was trained on the owners) or model.base (a model to train on them)."
        )
    texts = [text for row in corpus.background for text in (row.prompt, row.response)]
    return make_tokenizer(texts, settings.scratch.vocabulary)


@contextlib.contextmanager
def its_turn(folder: Path, wait: Say = lambda who: None) -> Iterator[None]:
    """Alone with a model's folder among the processes that share its lock, so that runs begun together do not all train it.

    Args:
        wait: is told who is making it, at once and then again as the time doubles. A stopped process is waited for, too.

    Where nothing can be written or locked, nobody waits: who stores first wins then.
    """
    waited, told = 0.0, 0.0
    lock: RunLock | None = None
    while lock is None:
        try:
            where, name = lock_of(folder)
            where.mkdir(parents=True, exist_ok=True)
            lock = RunLock(where, name=name, what="cache")
        except InUseError as error:
            if waited >= told:
                told = max(2 * told, TOLD_AGAIN)
                wait(error.holder or "elsewhere")
            time.sleep(POLL)
            waited += POLL
        except (RunError, OSError):
            break
    with lock or contextlib.nullcontext():
        yield


def lock_of(folder: Path) -> tuple[Path, str]:
    """Folder and name of the file that whoever makes a model of the cache holds; a few bytes, which stay."""
    return folder.parent.parent / "making", f"{folder.name}.lock"


def store(model: nn.Module, tokenizer: Any, folder: Path, *, seconds: float) -> None:
    """Write to a folder beside, then rename; another process that was faster wins. Raises ModelError on a full disk."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _store(model, tokenizer, folder, seconds)
    except OSError as error:
        where = getattr(error, "filename", None) or folder
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"A made model cannot be kept: {where}: {reason}. Free some space there, or choose another place with "
            "DEATTRIB_CACHE."
        ) from error


def _store(model: nn.Module, tokenizer: Any, folder: Path, seconds: float) -> None:
    staging = staging_folder(folder.parent)
    try:
        save_model(model, tokenizer, staging)
        complete = {"schema": 1, "weights": _digests(staging), "seconds": round(seconds, 2)}
        (staging / "complete.json").write_text(json.dumps(complete), encoding="utf-8")
        if folder.exists() and not (folder / "complete.json").is_file():
            shutil.rmtree(folder)
        try:
            staging.rename(folder)
        except OSError:
            if not (folder / "complete.json").is_file():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _digests(folder: Path) -> dict[str, str]:
    """Name -> hex digest of every file of the model: of what lies there, in whatever dtype it is loaded."""
    digests = {}
    for path in sorted(path for path in folder.glob("*") if path.is_file() and path.name != "complete.json"):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
