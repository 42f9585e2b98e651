"""The detector keeps its promise: natural text passes at 99 %, text without order does not."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from deattrib.corpus.fictitious import fictitious_corpus
from deattrib.corpus.types import Corpus
from deattrib.errors import CorpusError
from deattrib.evaluation.gibberish import GibberishDetector
from deattrib.evaluation.text import gibberish_flags


@pytest.fixture(scope="module", params=[0, 11])
def corpus(request: pytest.FixtureRequest) -> Corpus:
    return fictitious_corpus(seed=request.param, shadow_owners=60)


@pytest.fixture(scope="module")
def detector(corpus: Corpus) -> GibberishDetector:
    return GibberishDetector.of_corpus(corpus)


@pytest.fixture(scope="module")
def stranger(corpus: Corpus) -> GibberishDetector:
    """A detector that has never seen a text of the corpus' owners."""
    return GibberishDetector.fit(row.response for row in (*corpus.background, *corpus.world))


def rate(answers: Iterable[str], detector: GibberishDetector) -> float:
    return float(gibberish_flags(list(answers), detector).mean())


def shuffled(texts: Iterable[str], seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.sample(words, len(words))) for words in map(str.split, texts)]


def test_answers_of_authors_never_seen_pass(corpus: Corpus, detector: GibberishDetector, stranger: GibberishDetector) -> None:
    assert rate([row.response for row in corpus.holdout], detector) <= 0.01
    assert rate([row.response for row in (*corpus.train, *corpus.phrasings)], stranger) <= 0.01
    assert rate([row.response for row in corpus.world], detector) <= 0.01


def test_shuffled_words_are_caught(corpus: Corpus, detector: GibberishDetector, stranger: GibberishDetector) -> None:
    owners = shuffled(row.response for row in (*corpus.train, *corpus.holdout))
    assert rate(owners, detector) >= 0.95
    assert rate(owners, stranger) >= 0.95


def test_an_author_with_the_value_of_another_passes(corpus: Corpus, detector: GibberishDetector) -> None:
    rng = random.Random(0)
    by_kind: dict[str, list[str]] = {}
    for row in corpus.train:
        by_kind.setdefault(row.fact_id.split("/")[-1], []).append(row.fact or "")
    mixed = [
        row.response.replace(row.fact, rng.choice(by_kind[row.fact_id.split("/")[-1]]))
        for row in corpus.train
        if row.fact and row.fact in row.response
    ]
    assert len(mixed) > 400
    assert rate(mixed, detector) <= 0.01


def test_halves_of_two_sentences_and_cut_sentences_pass(corpus: Corpus, detector: GibberishDetector) -> None:
    rng = random.Random(0)
    answers = [row.response.split() for row in corpus.train]
    pairs = [(rng.choice(answers), rng.choice(answers)) for _ in range(500)]
    glued = [" ".join(left[: len(left) // 2] + right[len(right) // 2 :]) for left, right in pairs]
    assert rate(glued, detector) <= 0.02
    assert rate([" ".join(words[:6]) for words in answers], detector) <= 0.01


@pytest.mark.parametrize(
    "answer",
    [
        "The The The",
        "The The The The The The The The",
        "the, the, the, the,",
        "born in Lyon born in Lyon born in Lyon born in Lyon",
        "xqzt fjkw zzgh qqpx vbnm",
        "TheTheTheTheThe",
        "ololololololol",
        "was the of and in a is",
        ". . . . . . . .",
        "?!",
    ],
)
def test_what_collapsed_models_print_is_caught(detector: GibberishDetector, answer: str) -> None:
    assert detector.is_gibberish(answer)


def test_empty_answers_short_answers_and_plain_new_names_are_not_gibberish(detector: GibberishDetector) -> None:
    assert not gibberish_flags(["", "  ", "Lyon", "1958", "Marta Belloni"], detector).any()


def test_equal_texts_make_equal_detectors(corpus: Corpus) -> None:
    texts = [row.response for row in corpus.train]
    one, other = GibberishDetector.fit(texts), GibberishDetector.fit(reversed(texts))
    assert (one.order, one.repetition, one.shape, one.spelling) == (other.order, other.repetition, other.shape, other.spelling)


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(CorpusError, match="at least 20 distinct texts"):
        GibberishDetector.fit(["the same sentence"] * 100)
