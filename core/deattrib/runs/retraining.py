"""Retraining by the run's own recipe; the models are kept where all made models are."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from torch import nn

from deattrib.corpus.types import Corpus
from deattrib.errors import ModelError, did_you_mean
from deattrib.models.language_model import LanguageModel

if TYPE_CHECKING:
    from deattrib.runs.maker import ModelMaker


class RecipeRetrainer:
    """What `deattrib.attribution.retraining.Retrainer` asks for.

    Args:
        maker: makes and caches models of the run.
        base: the model before any owner.
        corpus: whose rows are trained on.
        seed: of the run.
    """

    def __init__(self, maker: ModelMaker, base: nn.Module, corpus: Corpus, seed: int) -> None:
        self.maker, self.base, self.corpus = maker, base, corpus
        self._seed = seed
        self._seconds: float | None = None

    @property
    def seed(self) -> int:
        return self._seed

    def model(self, *, without: Collection[str] = (), seed: int) -> LanguageModel:
        left_out = self._known(without)
        some = ", ".join(sorted(left_out)[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
        what = f"model without {some}, seed {seed}" if left_out else f"model of all owners, seed {seed}"
        job = self.maker.job(self.base, self.corpus.train, what, seed, left_out=left_out)
        return LanguageModel(self.maker.made(self.base, job), self.maker.codec, name=what)

    def cached(self, *, without: Collection[str] = (), seed: int) -> bool:
        return self.maker.job(self.base, self.corpus.train, "", seed, left_out=self._known(without)).done

    def seconds(self) -> float:
        if self._seconds is None:
            self._seconds = self.maker.seconds(self.base, self.maker.job(self.base, self.corpus.train, "", self.seed))
        return self._seconds

    def _known(self, without: Collection[str]) -> frozenset[str]:
        owners = self.corpus.owners
        for name in without:
            if name not in owners:
                raise ModelError(
                    f"Nobody can be left out as {name!r}: the corpus has no such owner.{did_you_mean(name, owners)}"
                )
        return frozenset(without)
