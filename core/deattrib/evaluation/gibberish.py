"""Is an answer language at all? A detector fitted on the corpus' own texts.

No published detector fits models of every size and corpora of invented names, so this one learns what the corpus
looks like. An answer is gibberish where one of three signs is worse than in natural text that was held out:

- *order*: how much better each token fits its predecessor than a random place, log p(w | v) / p(w), the pointwise
  mutual information of an interpolated bigram model (Witten and Bell 1991). Words that were never seen together back
  off to their classes (frequent words are their own class, others go by shape and ending), so that a sentence of one
  author with another's value passes. Rare and unknown words cost nothing; words out of order do.
- *repetition*: share of word bigrams that occurred earlier in the answer ("The The The").
- *shape*: share of unknown words that are spelt like no word, by a character trigram model.

Thresholds come from texts that were left out of the fit (cross-fitting), so natural text passes at 99 % or more.
Where shuffled text is far away the order threshold moves half way towards it: an answer that mixes two sources is
then still far from being flagged. Empty answers are not gibberish; they are counted as empty.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from deattrib.corpus.types import Corpus
from deattrib.errors import CorpusError
from deattrib.evaluation.arrays import Array
from deattrib.evaluation.word_models import WordOrder, WordShape, repeated_share, tokens_of

_FOLDS = 3
_SCORED = 5_000  # held-out texts that thresholds are taken from
_TAILS = {"order": 0.003, "repetition": 0.002, "shape": 0.002}  # of held-out natural text that a sign may flag: < 1 % in all
_FLOOR_REPETITION = 0.3
_FLOOR_SHAPE = 0.34
_FLOOR_SPELLING = 4.5  # nats per character; foreign names reach 4.7, keys hit at random 5 to 6


@dataclass(frozen=True, slots=True, eq=False)
class GibberishDetector:
    """Flags answers that are not language. Make one with `fit`.

    Attributes:
        order: least mean fit of a token to its predecessor.
        repetition: most repeated pairs.
        shape: most odd words.
        spelling: surprise per character above which an unknown word is odd.
    """

    word_order: WordOrder
    word_shape: WordShape
    order: float
    repetition: float
    shape: float
    spelling: float

    @classmethod
    def fit(cls, texts: Iterable[str], *, seed: int = 0, most: int = 30_000) -> GibberishDetector:
        """Learn from natural texts of the kind that the models were trained on.

        Args:
            texts: at least 20 distinct ones; duplicates count once.
            seed: of the folds and shuffles.
            most: a random choice of this many is used where there are more.

        Raises:
            CorpusError: with fewer texts.
        """
        distinct = sorted({" ".join(text.split()) for text in texts} - {""})
        if len(distinct) < 20:
            raise CorpusError(f"A gibberish detector needs at least 20 distinct texts to learn from, and got {len(distinct)}.")
        rng = random.Random(seed)
        rng.shuffle(distinct)
        sentences = [tokens_of(text) for text in distinct[:most]]
        natural, shuffled, repeats, spelling, shapes = [], [], [], [], []
        for fold in range(_FOLDS):
            rest = [sentence for index, sentence in enumerate(sentences) if index % _FOLDS != fold]
            order, shape = WordOrder(rest), WordShape.of(rest)
            for index in range(fold, min(len(sentences), _SCORED), _FOLDS):
                sentence, words = sentences[index], distinct[index].split()
                natural.append(order.fit_of(sentence))
                shuffled.append(order.fit_of(tokens_of(" ".join(rng.sample(words, len(words))))))
                repeats.append(_repeated(sentence))
                spelling += [shape.surprise(word) for word in sentence if word[0].isalpha() and word.lower() not in shape.known]
                shapes.append((shape, sentence))
        limit = max(float(np.quantile(spelling, 0.98)) + 0.5, _FLOOR_SPELLING) if spelling else _FLOOR_SPELLING
        odd = [shape.odd_share(sentence, limit) for shape, sentence in shapes]
        return cls(
            word_order=WordOrder(sentences),
            word_shape=WordShape.of(sentences),
            order=_order_threshold(np.array(natural), np.array(shuffled)),
            repetition=max(float(np.quantile(repeats, 1 - _TAILS["repetition"])), _FLOOR_REPETITION),
            shape=max(float(np.quantile(odd, 1 - _TAILS["shape"])), _FLOOR_SHAPE),
            spelling=limit,
        )

    @classmethod
    def of_corpus(cls, corpus: Corpus) -> GibberishDetector:
        """Learn from every answer that the corpus says is right: trained, in other phrasings, background and world."""
        rows = (*corpus.train, *corpus.phrasings, *corpus.background, *corpus.world)
        return cls.fit(row.response for row in rows)

    def is_gibberish(self, text: str) -> bool:
        """True where a sign is worse than in natural text; False for an empty answer."""
        sentence = tokens_of(text)
        if not sentence:
            return False
        return (
            self.word_order.fit_of(sentence) < self.order
            or _repeated(sentence) > self.repetition
            or self.word_shape.odd_share(sentence, self.spelling) > self.shape
        )


def _order_threshold(natural: Array, shuffled: Array) -> float:
    """The tail of natural text, or half way from there to shuffled text where that is further off."""
    natural, shuffled = natural[np.isfinite(natural)], shuffled[np.isfinite(shuffled)]
    if not len(natural):
        return -math.inf
    least = float(np.quantile(natural, _TAILS["order"]))
    if not len(shuffled):
        return least
    most = float(np.quantile(shuffled, 0.98))
    return (least + most) / 2 if most < least else least


def _repeated(sentence: Sequence[str]) -> float:
    """Share of token pairs that occurred earlier, in [0, 1)."""
    return repeated_share([token.lower() for token in sentence], n=2)
