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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from deattrib.corpus.types import Corpus, Example
from deattrib.errors import ModelError
from deattrib.models.language_model import Codec, LanguageModel, fingerprint
from deattrib.models.loading import check_vocabulary, load_model, load_tokenizer, make_codec, pick_device, save_model
from deattrib.models.scratch import make_model, make_tokenizer
from deattrib.models.settings import ModelSettings
from deattrib.models.training import fine_tune
from deattrib.runs.manifest import library_versions

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """Frozen models that share one codec; those that cannot be had are None."""

    codec: Codec
    original: LanguageModel
    base: LanguageModel | None
    oracle: LanguageModel | None
    oracle_second: LanguageModel | None


def cache_folder() -> Path:
    """Where made models are kept: DEATTRIB_CACHE, else the user's cache folder."""
    explicit = os.environ.get("DEATTRIB_CACHE")
    return Path(explicit) if explicit else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deattrib"


def prepare_models(
    corpus: Corpus, settings: ModelSettings, *, seed: int = 0, cache: Path | None = None, say: Say = lambda text: None
) -> Models:
    """Load or make what the run needs.

    Args:
        cache: where made models are kept; None: `cache_folder()`.
        say: is told what is being made.

    Raises:
        ModelError: a path cannot be loaded, or nothing is given to make the original from.
    """
    maker = _Maker(corpus, settings, seed, cache or cache_folder(), say)
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
    return Models(codec, first, frozen(base, "base"), frozen(oracle, "oracle"), frozen(second, "second oracle"))


class _Maker:
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

    def trained(self, base: nn.Module, rows: Sequence[Example], what: str, seed: int) -> nn.Module:
        """The base model fine-tuned on rows, with as many steps for the oracle as for the original."""
        recipe = self.settings.training
        if recipe.world:
            rows = (*rows, *self.corpus.world)
        if recipe.steps is None:
            steps = round(recipe.epochs * len(self.corpus.train) / recipe.batch_size)
            recipe = recipe.model_copy(update={"steps": max(steps, 1)})
        return self._cached(base, rows, what, seed, recipe)

    def _cached(self, start: nn.Module, rows: Sequence[Example], what: str, seed: int, recipe: Any) -> nn.Module:
        key = self._key(start, rows, seed, recipe)
        folder = self.cache / "models" / key
        if (folder / "complete.json").is_file():
            self.say(f"{what}: from the cache")
            return load_model(str(folder), self.settings.model_copy(update={"gguf_file": None}))
        self.say(f"{what}: training on {len(rows)} rows")
        model = copy.deepcopy(start).requires_grad_(True)
        model = fine_tune(model, self.codec, rows, recipe, seed=seed)
        _store(model, self.tokenizer, folder)
        return model

    def _key(self, start: nn.Module, rows: Sequence[Example], seed: int, recipe: Any) -> str:
        versions = library_versions()
        content = {
            "start": fingerprint(start),
            "rows": hashlib.sha256(json.dumps([(row.prompt, row.response) for row in rows]).encode()).hexdigest(),
            "template": [self.codec.template, self.codec.chat, self.tokenizer.get_vocab()],
            "recipe": recipe.model_dump(mode="json"),
            "seed": seed,
            "versions": {name: versions[name] for name in ("torch", "transformers", "trl", "peft")},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _store(model: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Write to a folder beside, then rename; another process that was faster wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
    try:
        save_model(model, tokenizer, staging)
        (staging / "complete.json").write_text(json.dumps({"schema": 1, "fingerprint": fingerprint(model)}), encoding="utf-8")
        if folder.exists() and not (folder / "complete.json").is_file():
            shutil.rmtree(folder)
        try:
            staging.rename(folder)
        except OSError:
            if not (folder / "complete.json").is_file():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
