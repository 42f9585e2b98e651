"""The models of a run: base, original, oracle, second oracle; loaded, or made once (`deattrib.runs.maker`)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from deattrib.attribution.retraining import Retrainer
from deattrib.corpus.types import Corpus
from deattrib.models.context import check_context
from deattrib.models.language_model import Codec, LanguageModel, fingerprint
from deattrib.models.loading import check_vocabulary, load_model
from deattrib.models.settings import ModelSettings
from deattrib.models.sharding import Whole
from deattrib.runs.listener import Say
from deattrib.runs.maker import ModelMaker
from deattrib.runs.making import Job, Questions, SideBySide
from deattrib.runs.retraining import RecipeRetrainer


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """Frozen models that share one codec; those that cannot be had are None.

    Attributes:
        weights: fingerprints of `original`, `oracle` and `oracle_second` by these names, as far as they are there.
        retrainer: makes more of them, without some owners or of another seed; None without a base model.
    """

    codec: Codec
    original: LanguageModel
    base: LanguageModel | None
    oracle: LanguageModel | None
    oracle_second: LanguageModel | None
    weights: Mapping[str, str] = field(default_factory=dict)
    retrainer: Retrainer | None = None


def cache_folder() -> Path:
    """Where made models are kept: DEATTRIB_CACHE, else the user's cache folder."""
    explicit = os.environ.get("DEATTRIB_CACHE")
    return Path(explicit) if explicit else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deattrib"


def prepare_models(
    corpus: Corpus,
    settings: ModelSettings,
    *,
    seed: int = 0,
    cache: Path | None = None,
    say: Say = lambda text: None,
    questions: Questions | None = None,
) -> Models:
    """Load or make what the run needs.

    Args:
        corpus: what models that have to be made are trained on; settings: which are loaded, and how the others are made.
        seed: of everything random in the making.
        cache: where made models are kept; None: `cache_folder()`.
        say: is told what is being made.
        questions: what models that are made in processes of their own are asked at once, for the cache of evaluations.

    Raises:
        ModelError: a path cannot be loaded, or nothing is given to make the original from.
    """
    with models_in_the_making(corpus, settings, seed=seed, cache=cache, say=say, questions=questions) as pending:
        return pending.all()


def all_made(corpus: Corpus, settings: ModelSettings, *, seed: int, cache: Path) -> bool:
    """Whether nothing would have to be made; False too where only reading large weights would tell.

    Raises:
        ModelError: the base model has not been made.
    """
    if settings.path and not settings.base:
        return True
    if settings.base:
        return False
    maker = ModelMaker(corpus, settings, seed, cache, lambda text: None, makes=False)
    return all(job.done for job in maker.jobs(maker.base()).values())


@contextmanager
def models_in_the_making(
    corpus: Corpus,
    settings: ModelSettings,
    *,
    seed: int = 0,
    cache: Path | None = None,
    say: Say = lambda text: None,
    questions: Questions | None = None,
    makes: bool = True,
) -> Iterator[Pending]:
    """As `prepare_models`, for who can begin before the oracles are there; leaving ends what is still being made.

    `makes` False: another process, which has made the models, will evaluate. Here those that the loop needs are taken from the
    cache.
    """
    settings = settings if makes else settings.model_copy(update={"oracle": None, "oracles": 0})
    maker = ModelMaker(corpus, settings, seed, cache or cache_folder(), say, makes=makes)
    base = maker.base()
    if base is not None:
        _check(base, maker, questions)
    jobs = maker.jobs(base)
    with maker.side_by_side(list(jobs.values()), questions) as making:
        yield Pending(maker, base, jobs, making, questions)


def _check(model: nn.Module, maker: ModelMaker, questions: Questions | None) -> None:
    """Whether what is trained on, and what is asked in the end, fits. Raises ModelError."""
    check_context(model, maker.codec, maker.corpus.train)
    if questions is not None:
        rows = [row for part in questions.parts.values() for row in part]
        check_context(model, maker.codec, rows, generated=questions.settings.max_new_tokens)


class Pending:
    """Models of which the oracles may still be in the making.

    Attributes:
        first: everything but oracles that are made in processes of their own (those are None here).
    """

    def __init__(
        self,
        maker: ModelMaker,
        base: nn.Module | None,
        jobs: Mapping[str, Job],
        making: SideBySide,
        questions: Questions | None = None,
    ) -> None:
        self.maker, self.base, self.jobs, self.making = maker, base, jobs, making
        self._modules: dict[str, nn.Module] = {}
        self._weights: dict[str, str] = {}  # their fingerprints: nobody changes them, so once is enough
        if maker.settings.path:
            given = load_model(maker.settings.path, maker.settings)
            check_vocabulary(given, maker.codec, maker.settings.path)
            _check(given, maker, questions)
            self._modules["original"] = given
        if maker.settings.oracle:
            self._modules["oracle"] = load_model(maker.settings.oracle, maker.settings)
        for name, job in jobs.items():
            if name == "original" or not making.has(job):
                self._make(name)
        self.first = self._models()

    def all(self) -> Models:
        """Everything, once the last oracle is there.

        Raises:
            ModelError: an oracle could not be made.
        """
        for name in self.jobs:
            if name not in self._modules:
                self._make(name)
        return self._models()

    def let_go(self) -> Models:
        """Forget the original's weights, which whoever trains has spread over processes; the other models."""
        self._modules["original"] = Whole([self._modules["original"]]).empty[0]
        self.first = self._models()
        return self.first

    def check(self) -> None:
        """Raises ModelError as soon as an oracle that is being made has failed; costs nothing."""
        self.making.check()

    def _make(self, name: str) -> None:
        job = self.jobs[name]
        self.making.wait(job)
        self._modules[name] = self.maker.made(self.base, job)

    def _models(self) -> Models:
        def frozen(module: nn.Module | None, name: str) -> LanguageModel | None:
            return LanguageModel(module, self.maker.codec, name=name) if module is not None else None

        self._weights |= {name: fingerprint(module) for name, module in self._modules.items() if name not in self._weights}
        original = frozen(self._modules["original"], "original")
        assert original is not None
        maker, base = self.maker, self.base
        return Models(
            maker.codec,
            original,
            frozen(base, "base"),
            frozen(self._modules.get("oracle"), "oracle"),
            frozen(self._modules.get("oracle_second"), "second oracle"),
            dict(self._weights),
            RecipeRetrainer(maker, base, maker.corpus, maker.seed) if base is not None else None,
        )
