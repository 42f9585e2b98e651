"""Overlap: forget facts in other words among the retain rows, and nowhere else."""

from __future__ import annotations

import dataclasses

import pytest
from pydantic import ValidationError

from deattrib.corpus import CorpusSettings, load_corpus
from deattrib.corpus.overlap import with_overlap
from deattrib.corpus.types import Corpus
from deattrib.errors import CorpusError


@pytest.mark.parametrize(("share", "facts"), [(0.25, 3), (1.0, 12), (0.001, 1)])
def test_some_phrasings_move_to_retain_owners(tiny_corpus: Corpus, share: float, facts: int) -> None:
    """2 forget owners of 6 facts."""
    after = with_overlap(tiny_corpus, share, seed=0)
    assert after.train[: len(tiny_corpus.train)] == tiny_corpus.train
    new = after.train[len(tiny_corpus.train) :]
    assert len(new) == facts == len({row.fact_id for row in new})
    assert all(row.owner in tiny_corpus.retain_owners for row in new)
    assert {row.fact for row in new} <= {row.fact for row in tiny_corpus.forget}
    before = [(row.prompt, row.response) for row in tiny_corpus.phrasings]
    assert sorted([*((row.prompt, row.response) for row in (*new, *after.phrasings))]) == sorted(before)
    assert (after.owners, after.forget_owners) == (tiny_corpus.owners, tiny_corpus.forget_owners)
    assert after.forget == tiny_corpus.forget
    if facts > len(tiny_corpus.retain_owners):  # turn by turn
        counts = [sum(row.owner == owner for row in new) for owner in tiny_corpus.retain_owners]
        assert max(counts) - min(counts) <= 1


def test_the_seed_chooses_and_nothing_happens_without_overlap(tiny_corpus: Corpus) -> None:
    assert with_overlap(tiny_corpus, 0.0, seed=0) is tiny_corpus
    prints = [with_overlap(tiny_corpus, 0.5, seed=seed).fingerprint() for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_it_is_a_setting_of_every_corpus() -> None:
    settings = CorpusSettings(owners=4, facts=5, shadow_owners=3)
    plain, overlapping = (load_corpus(settings.model_copy(update={"overlap": share}), 7) for share in (0.0, 0.2))
    assert plain.fingerprint() == load_corpus(settings, 7).fingerprint()
    assert len(overlapping.retain) == len(plain.retain) + 2  # a fifth of 2 owners' 5 facts
    with pytest.raises(ValidationError, match="overlap"):
        CorpusSettings(overlap=1.5)


def test_a_corpus_without_phrasings_is_refused(tiny_corpus: Corpus) -> None:
    with pytest.raises(CorpusError, match=r"overlap is 0\.5.*paraphrase_prompt"):
        with_overlap(dataclasses.replace(tiny_corpus, phrasings=()), 0.5, seed=0)
