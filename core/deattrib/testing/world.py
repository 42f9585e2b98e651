"""The small world in which a scorer is checked: four fictitious authors and a model that has been trained on them.

Made in seconds from the built-in generator and kept in the cache of models (`DEATTRIB_CACHE`), found there by content.
The model is wide enough to know its rows by heart: a scorer that reads likelihoods or gradients has something to find.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from deattrib.attribution.retraining import Retrainer
from deattrib.attribution.scorer import Rows
from deattrib.corpus.fictitious import fictitious_corpus
from deattrib.corpus.types import Corpus, Example
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.recipes import BaseTrainingSettings, ScratchSettings, TrainingSettings
from deattrib.models.settings import ModelSettings
from deattrib.runs.prepare import cache_folder, prepare_models

SEED: Final = 11
SETTINGS: Final = ModelSettings(
    device="cpu",
    oracles=0,
    scratch=ScratchSettings(hidden=48, layers=2, heads=2, intermediate=96, vocabulary=500, context=1024),
    base_training=BaseTrainingSettings(steps=60, batch_size=16, learning_rate=0.005),
    training=TrainingSettings(steps=160, batch_size=8, learning_rate=0.008),
)


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A corpus, the model that was trained on it, and the model it was trained from.

    Attributes:
        corpus: 4 made-up authors with 8 rows each, names included; the last author is to be forgotten.
        original, base: frozen; whoever checks a scorer hands it copies.
        retrainer: makes the original again without some owners, for scorers that ask for it.
    """

    corpus: Corpus
    original: LanguageModel
    base: LanguageModel
    retrainer: Retrainer | None = None

    @property
    def codec(self) -> Codec:
        """Of both models."""
        return self.original.codec

    @property
    def rows(self) -> Rows:
        """12 rows, three about each owner: its own answer, somebody else's, and an own fact in words never trained on.

        Owners take turns, and their scores must differ for the checks to see anything.
        """
        owners, some = self.corpus.owners, []
        for i, owner in enumerate(owners):
            own, foreign = self.corpus.rows_of(owner)[0], self.corpus.rows_of(owners[i - 1])[1]
            unseen = next(row for row in self.corpus.phrasings if row.owner == owner and row.fact != own.fact)
            some.append((own, replace(foreign, owner=owner), unseen))
        return rows_of(self.codec, [row for turn in zip(*some, strict=True) for row in turn])


def rows_of(codec: Codec, examples: list[Example]) -> Rows:
    """Rows with the true answers of some examples, each about its own owner."""
    return Rows.from_texts(
        codec, [row.prompt for row in examples], [row.response for row in examples], [row.owner for row in examples]
    )


def make_world(cache: Path | None = None) -> World:
    """The small world, from the cache if it is there.

    Args:
        cache: folder of made models; None: DEATTRIB_CACHE, else the user's cache folder.
    """
    corpus = fictitious_corpus(seed=SEED, owners=4, facts=4, forget=1, shadow_owners=4, holdout_owners=1, world_repeats=1)
    models = prepare_models(corpus, SETTINGS, seed=SEED, cache=cache or cache_folder(), say=lambda _: None)
    assert models.base is not None
    return World(corpus, models.original, models.base, models.retrainer)
