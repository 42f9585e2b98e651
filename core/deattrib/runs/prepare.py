"""The models of a run: base, original, oracle, second oracle; loaded, or made once and cached by content.

A cached model is one folder named by a hash of everything it was made from: recipe, rows, seed, the model it started
from and the versions of the libraries that trained it. A folder is renamed into place when complete; what is left of
a killed attempt is never read.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from deattrib.attribution.retraining import Retrainer
from deattrib.corpus.types import Corpus, Example
from deattrib.errors import ModelError
from deattrib.models.language_model import Codec, LanguageModel, fingerprint
from deattrib.models.loading import check_vocabulary, load_model, load_tokenizer, make_codec, pick_device, save_model
from deattrib.models.recipes import TrainingSettings
from deattrib.models.scratch import make_model, make_tokenizer
from deattrib.models.settings import ModelSettings
from deattrib.models.training import fine_tune, seconds_per_step
from deattrib.runs.manifest import library_versions
from deattrib.runs.retraining import RecipeRetrainer

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """Frozen models that share one codec, and what makes more of them; those that cannot be had are None."""

    codec: Codec
    original: LanguageModel
    base: LanguageModel | None
    oracle: LanguageModel | None
    oracle_second: LanguageModel | None
    retrainer: Retrainer | None = None


def cache_folder() -> Path:
    """Where made models are kept: DEATTRIB_CACHE, else the user's cache folder."""
    explicit = os.environ.get("DEATTRIB_CACHE")
    return Path(explicit) if explicit else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deattrib"


def prepare_models(corpus: Corpus, settings: ModelSettings, *, seed: int, cache: Path, say: Say) -> Models:
    """Load or make what the run needs.

    Raises:
        ModelError: a path cannot be loaded, or nothing is given to make the original from.
    """
    maker = ModelMaker(corpus, settings, seed, cache, say)
    base = maker.base()
    original = maker.original(base)
    codec = maker.codec

    def frozen(model: nn.Module | None, name: str) -> LanguageModel | None:
        return LanguageModel(model, codec, name=name) if model is not None else None

    first = LanguageModel(original, codec, name="original")
    oracle = load_model(settings.oracle, settings) if settings.oracle else None
    second = None
    if oracle is None and base is not None and settings.oracles:
        oracle = maker.trained(base, corpus.retain, "oracle", seed)
        if settings.oracles > 1:
            second = maker.trained(base, corpus.retain, "second oracle", seed + 1000)
    retrainer = RecipeRetrainer(maker, base, corpus, seed) if base is not None else None
    return Models(codec, first, frozen(base, "base"), frozen(oracle, "oracle"), frozen(second, "second oracle"), retrainer)


class ModelMaker:
    """Makes the models of one run, or finds them in the cache."""

    def __init__(self, corpus: Corpus, settings: ModelSettings, seed: int, cache: Path, say: Say) -> None:
        self.corpus, self.settings, self.seed, self.cache, self.say = corpus, settings, seed, cache, say
        self.device = pick_device(settings.device)
        source = settings.path or settings.base
        if source:
            self.tokenizer = load_tokenizer(source, settings)
        else:
            if not corpus.background:
                raise ModelError(
                    f"Corpus {corpus.name!r} has no background rows to make a model from nothing: give model.path (a model "
                    "that was trained on the owners) or model.base (a model to train on them)."
                )
            texts = [text for row in corpus.background for text in (row.prompt, row.response)]
            self.tokenizer = make_tokenizer(texts, settings.scratch.vocabulary)
        self.codec = make_codec(self.tokenizer, settings)

    def base(self) -> nn.Module | None:
        if self.settings.base:
            model = load_model(self.settings.base, self.settings)
            check_vocabulary(model, self.codec, self.settings.base)
            return model
        if self.settings.path:
            return None
        start = make_model(self.settings.scratch, self.tokenizer, seed=self.seed).to(self.device)
        recipe = self.settings.base_training
        return self._cached(start, self.corpus.background, "base model", self.seed, recipe)

    def original(self, base: nn.Module | None) -> nn.Module:
        if self.settings.path:
            model = load_model(self.settings.path, self.settings)
            check_vocabulary(model, self.codec, self.settings.path)
            return model
        assert base is not None
        return self.trained(base, self.corpus.train, "original model", self.seed)

    def trained(
        self, base: nn.Module, rows: Sequence[Example], what: str, seed: int, *, left_out: Collection[str] = ()
    ) -> nn.Module:
        """The base model fine-tuned on rows, with as many steps for the oracle as for the original.

        Args:
            left_out: owners whose rows keep their place in the order of batches and give no loss.
        """
        rows, recipe, kept = self._plan(rows, left_out)
        return self._cached(base, rows, what, seed, recipe, kept)

    def is_cached(self, base: nn.Module, rows: Sequence[Example], seed: int, *, left_out: Collection[str] = ()) -> bool:
        """Whether `trained` would only load."""
        rows, recipe, kept = self._plan(rows, left_out)
        return (self._folder(base, rows, seed, recipe, kept) / "complete.json").is_file()

    def seconds(self, base: nn.Module, rows: Sequence[Example], seed: int) -> float:
        """What `trained` takes without the cache: as recorded with the model of all owners, else a few steps measured."""
        rows, recipe, kept = self._plan(rows, ())
        complete = self._folder(base, rows, seed, recipe, kept) / "complete.json"
        if complete.is_file():
            recorded = json.loads(complete.read_text(encoding="utf-8")).get("seconds")
            if recorded is not None:
                return float(recorded)
        return (recipe.steps or 1) * seconds_per_step(base, self.codec, rows, recipe)

    def _plan(
        self, rows: Sequence[Example], left_out: Collection[str]
    ) -> tuple[Sequence[Example], TrainingSettings, list[bool] | None]:
        """All rows, the recipe with its number of steps, and which rows give a loss (None: all)."""
        recipe = self.settings.training
        if recipe.world:
            rows = (*rows, *self.corpus.world)
        if recipe.steps is None:
            steps = round(recipe.epochs * len(self.corpus.train) / recipe.batch_size)
            recipe = recipe.model_copy(update={"steps": max(steps, 1)})
        return rows, recipe, [row.owner not in left_out for row in rows] if left_out else None

    def _cached(
        self, start: nn.Module, rows: Sequence[Example], what: str, seed: int, recipe: Any, kept: list[bool] | None = None
    ) -> nn.Module:
        folder = self._folder(start, rows, seed, recipe, kept)
        if (folder / "complete.json").is_file():
            self.say(f"{what}: from the cache")
            return load_model(str(folder), self.settings.model_copy(update={"gguf_file": None}))
        self.say(f"{what}: training on {sum(kept) if kept else len(rows)} rows")
        begin = time.perf_counter()
        model = copy.deepcopy(start).requires_grad_(True)
        model = fine_tune(model, self.codec, rows, recipe, seed=seed, kept=kept)
        _store(model, self.tokenizer, folder, seconds=time.perf_counter() - begin)
        return model

    def _folder(self, start: nn.Module, rows: Sequence[Example], seed: int, recipe: Any, kept: list[bool] | None) -> Path:
        versions = library_versions()
        content = {
            "start": fingerprint(start),
            "rows": hashlib.sha256(json.dumps([(row.prompt, row.response) for row in rows]).encode()).hexdigest(),
            "template": [self.codec.template, self.codec.chat, self.tokenizer.get_vocab()],
            "recipe": recipe.model_dump(mode="json"),
            "seed": seed,
            "versions": {name: versions[name] for name in ("torch", "transformers", "trl", "peft")},
        }
        if kept is not None:
            content["kept"] = kept
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return self.cache / "models" / digest[:32]


def _store(model: nn.Module, tokenizer: Any, folder: Path, *, seconds: float) -> None:
    """Write to a folder beside, then rename; another process that was faster wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
    try:
        save_model(model, tokenizer, staging)
        complete = {"schema": 1, "fingerprint": fingerprint(model), "seconds": round(seconds, 2)}
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
