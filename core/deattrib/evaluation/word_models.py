"""Small statistical models of a corpus' language: which word follows which, and how words are spelt.

What `deattrib.evaluation.gibberish` decides with; the sources are named there.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

_TOKEN = re.compile(r"\w+(?:['\u2019\-]\w+)*|[^\w\s]")
_LOOP = re.compile(r"(.{2,})\1{2,}|(.)\2{3,}")
_START = "<start>"
_FREQUENT = 200  # words that are a class of their own
_CLIP = (-3.0, 3.0)  # nats: one unseen name must not outweigh a sentence
_UNSEEN = 0.05  # p(w | v) / p(w) where nothing is known about the pair
_SHORT = 4  # tokens: an answer with fewer has no order to speak of


def tokens_of(text: str) -> list[str]:
    """Words and punctuation marks."""
    return _TOKEN.findall(text)


class WordOrder:
    """Interpolated bigram model over words and word classes."""

    def __init__(self, texts: Iterable[Sequence[str]]) -> None:
        sentences = list(texts)
        self.words = Counter(word for sentence in sentences for word in sentence)
        self.total = max(sum(self.words.values()), 1)
        self.frequent = {word for word, count in self.words.most_common(_FREQUENT) if count >= 5}
        self._classes: dict[str, str] = {}
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.class_pairs: Counter[tuple[str, str]] = Counter()
        self.classes: Counter[str] = Counter()
        for sentence in sentences:
            classes = [self.class_of(word) for word in sentence]
            self.classes.update(classes)
            self.pairs.update(zip([_START, *sentence], sentence, strict=False))
            self.class_pairs.update(zip([_START, *classes], classes, strict=False))
        self.after, self.kinds = _contexts(self.pairs)
        self.class_after, self.class_kinds = _contexts(self.class_pairs)

    def class_of(self, word: str) -> str:
        known = self._classes.get(word)
        if known is None:
            if word in self.frequent or not word[0].isalnum():
                known = word
            elif any(character.isdigit() for character in word):
                known = "<number>"
            else:
                known = "<Name>" if word[0].isupper() else f"<-{word[-2:]}>"
            self._classes[word] = known
        return known

    def fit_of(self, sentence: Sequence[str]) -> float:
        """Mean clipped log p(w | v) / p(w) in nats; infinite where there are too few tokens to tell."""
        if len(sentence) < _SHORT:
            return math.inf
        total, before, class_before = 0.0, _START, _START
        for word in sentence:
            kind = self.class_of(word)
            total += min(max(math.log(max(self._ratio(before, word, class_before, kind), 1e-9)), _CLIP[0]), _CLIP[1])
            before, class_before = word, kind
        return total / len(sentence)

    def _ratio(self, before: str, word: str, class_before: str, kind: str) -> float:
        seen, count = self.class_after[class_before], self.classes[kind]
        by_class = _UNSEEN
        if not count:
            by_class = 1.0  # a class that the corpus does not have says nothing about order
        elif seen:
            trust = seen / (seen + self.class_kinds[class_before])
            by_class = trust * self.class_pairs[class_before, kind] * self.total / (seen * count) + (1 - trust) * _UNSEEN
        seen, count = self.after[before], self.words[word]
        if not seen or not count:
            return by_class
        trust = seen / (seen + self.kinds[before])
        return trust * self.pairs[before, word] * self.total / (seen * count) + (1 - trust) * by_class


def _contexts(pairs: Counter[tuple[str, str]]) -> tuple[Counter[str], Counter[str]]:
    """How often each left neighbour occurs, and with how many kinds of right neighbours."""
    after: Counter[str] = Counter()
    for (before, _), count in pairs.items():
        after[before] += count
    return after, Counter(before for before, _ in pairs)


class WordShape:
    """Character model of the vocabulary, each word counted once: trigrams that back off to pairs and single characters."""

    def __init__(self, words: Iterable[str]) -> None:
        self.known = {word.lower() for word in words}
        self.longest = max((len(word) for word in self.known), default=0)
        # grams[n] counts runs of n characters that end a step; kinds[n] the different ends of a run of n.
        self.grams: list[Counter[str]] = [
            Counter(marked[end - n : end] for marked in map(_marked, self.known) for end in range(3, len(marked) + 1))
            for n in range(4)
        ]
        self.kinds = [Counter(gram[:-1] for gram in self.grams[n + 1]) for n in range(3)]
        self.starts = [_sums(self.grams[n + 1]) for n in range(3)]

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]]) -> WordShape:
        """From all words of some sentences."""
        return cls(word for sentence in sentences for word in sentence if word[0].isalpha())

    def surprise(self, word: str) -> float:
        """Mean -log p per character in nats, the end of the word included."""
        marked = _marked(word.lower())
        steps = range(3, len(marked) + 1)
        return -sum(math.log(self._probability(marked[end - 3 : end])) for end in steps) / len(steps)

    def _probability(self, gram: str) -> float:
        """p(last character | those before), Witten-Bell interpolated down to a flat one over 64 characters."""
        value = 1 / 64
        for n in range(3):
            before = gram[2 - n : 2]
            seen = self.starts[n][before]
            if seen:
                trust = seen / (seen + self.kinds[n][before])
                value = trust * self.grams[n + 1][gram[2 - n :]] / seen + (1 - trust) * value
        return value

    def odd_share(self, sentence: Sequence[str], limit: float) -> float:
        """Share of words that are unknown and spelt like no word; 1 where there are marks but no words; 0 for none.

        A single odd word may be a name from elsewhere and does not count, unless it runs in circles or has no end.
        """
        words = [word for word in sentence if word[0].isalpha()]
        if not words:
            return float(bool(sentence) and not any(word[0].isdigit() for word in sentence))
        unknown = [word for word in words if word.lower() not in self.known]
        broken = sum(len(word) > self.longest + 8 or bool(_LOOP.search(word.lower())) for word in unknown)
        odd = sum(self.surprise(word) > limit for word in unknown)
        return max(broken, odd if odd > 1 else 0) / len(words)


def _marked(word: str) -> str:
    return f"^^{word}$"


def _sums(grams: Counter[str]) -> Counter[str]:
    """How often each run of characters is followed by another."""
    starts: Counter[str] = Counter()
    for gram, count in grams.items():
        starts[gram[:-1]] += count
    return starts


def repeated_share(words: Sequence[str], *, n: int) -> float:
    """Share of n-grams that occurred earlier in the sequence, in [0, 1)."""
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
