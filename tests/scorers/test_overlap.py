"""Overlap against brute force over all substrings, and what it must and must not see."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from torch import nn

from deattrib.attribution.context import ScorerContext, make_context
from deattrib.attribution.guard import cut_and_score
from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus
from deattrib.errors import ScorerError
from deattrib.models.language_model import Codec, LanguageModel
from deattrib_scorers.overlap import Overlap, SuffixAutomaton


@pytest.fixture
def context(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> ScorerContext:
    return make_context(tiny_corpus, LanguageModel(tiny_llama, tiny_codec))


def fitted(context: ScorerContext, **params: Any) -> Overlap:
    scorer = Overlap(Overlap.Params(**params))
    scorer.fit(context)
    return scorer


def mixed_rows(context: ScorerContext, corpus: Corpus) -> Rows:
    """Halves of one owner's answer with halves of another's, asked about the first."""
    rng = random.Random(4)
    pairs = [(rng.choice(corpus.forget), rng.choice(corpus.retain)) for _ in range(8)]
    texts = [" ".join(a.response.split()[:6] + b.response.split()[3:9]) for a, b in pairs]
    return Rows.from_texts(context.codec, [a.prompt for a, _ in pairs], texts, [a.owner for a, _ in pairs])


def kept(context: ScorerContext, rows: Rows, masked: bool) -> list[list[int]]:
    """Token ids without end of sequence, and without names if asked."""
    names = context.name_mask(rows)
    return [
        [t for t, name in zip(ids, mask, strict=False) if t != context.codec.eos_id and not (masked and name)]
        for ids, mask in zip(rows.batch.response_lists(), names.tolist(), strict=True)
    ]


def answers(context: ScorerContext, owner: str, masked: bool) -> list[list[int]]:
    texts = [row.response for row in context.rows_by_owner[owner]]
    return kept(context, Rows.from_texts(context.codec, ["?"] * len(texts), texts, [owner] * len(texts)), masked)


def contains(long: list[int], short: list[int]) -> bool:
    return any(long[i : i + len(short)] == short for i in range(len(long) - len(short) + 1))


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("rare", [True, False])
@pytest.mark.parametrize("order", [1, 3])
def test_ngrams_by_brute_force(context: ScorerContext, tiny_corpus: Corpus, masked: bool, rare: bool, order: int) -> None:
    scorer, rows = fitted(context, order=order, rare=rare, mask_names=masked), mixed_rows(context, tiny_corpus)
    texts = {owner: answers(context, owner, masked) for owner in context.owners}
    expected = []
    for ids, owner in zip(kept(context, rows, masked), rows.owners, strict=True):
        grams = [ids[i : i + order] for i in range(len(ids) - order + 1)]
        total = 0.0
        for gram in grams:
            having = [name for name in context.owners if any(contains(text, gram) for text in texts[name])]
            if owner in having:
                total += math.log(len(texts) / len(having)) / math.log(len(texts)) if rare else 1.0
        expected.append(total / len(grams))
    assert len(set(expected)) > 2
    assert scorer.score(rows).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("masked", [True, False])
def test_longest_by_brute_force(context: ScorerContext, tiny_corpus: Corpus, masked: bool) -> None:
    scorer, rows = fitted(context, measure="longest", mask_names=masked), mixed_rows(context, tiny_corpus)
    expected = []
    for ids, owner in zip(kept(context, rows, masked), rows.owners, strict=True):
        texts = answers(context, owner, masked)
        spans = [(i, j) for i in range(len(ids)) for j in range(i + 1, len(ids) + 1)]
        expected.append(max(j - i for i, j in spans if any(contains(text, ids[i:j]) for text in texts)) / len(ids))
    assert len(set(expected)) > 2
    assert scorer.score(rows).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("params", [{}, {"order": 1, "rare": False}, {"measure": "longest"}])
def test_all_prefixes_in_one_pass_are_those_cut_one_by_one(
    context: ScorerContext, tiny_corpus: Corpus, params: dict[str, Any]
) -> None:
    """Names are left in: cutting inside a name changes what is found to be one."""
    scorer, rows = fitted(context, mask_names=False, **params), mixed_rows(context, tiny_corpus)
    ends = torch.tensor([[1, 4, 7, 100]] * len(rows)).minimum(rows.batch.response_lengths[:, None])
    assert torch.allclose(scorer.score_prefixes(rows, ends), cut_and_score(scorer.score, rows, ends, context.codec), atol=1e-6)


def test_owners_at_once_are_owners_one_by_one(context: ScorerContext, tiny_corpus: Corpus) -> None:
    scorer, rows = fitted(context), mixed_rows(context, tiny_corpus)
    columns = [scorer.score(rows.about([owner] * len(rows))) for owner in context.owners]
    assert torch.equal(scorer.score_owners(rows, context.owners), torch.stack(columns, 1))


def test_the_owners_own_answers_overlap_in_full_and_tokens_add_up(context: ScorerContext, tiny_corpus: Corpus) -> None:
    own = [row for row in tiny_corpus.forget if row.owner == tiny_corpus.forget_owners[0]][:4]
    rows = Rows.from_texts(context.codec, [r.prompt for r in own], [r.response for r in own], [r.owner for r in own])
    longest = fitted(context, measure="longest")
    assert longest.score(rows).tolist() == [1.0] * 4
    assert fitted(context, rare=False).score(rows).tolist() == [1.0] * 4
    assert all(len(ids) > 2 for ids in kept(context, rows, True))
    for scorer in (longest, fitted(context), fitted(context, rare=False)):
        assert scorer.score_tokens(rows).sum(1).tolist() == pytest.approx(scorer.score(rows).tolist(), abs=1e-5)


def test_words_of_nobody_and_empty_answers_give_nothing(context: ScorerContext) -> None:
    rows = Rows.from_texts(context.codec, ["?"] * 2, ["qqq zzz qqq", ""], [context.owners[0]] * 2)
    for params in ({}, {"measure": "longest"}):
        assert fitted(context, **params).score(rows)[1] == 0
    assert fitted(context).score(rows)[0] == 0


def test_names_do_not_count_as_overlap(context: ScorerContext) -> None:
    owner = context.owners[0]
    rows = Rows.from_texts(context.codec, ["?"], [" ".join(context.identities[owner])], [owner])
    assert float(fitted(context, order=1).score(rows)) == 0
    assert float(fitted(context, order=1, mask_names=False).score(rows)) > 0


def test_an_unknown_owner_is_named(context: ScorerContext) -> None:
    rows = Rows.from_texts(context.codec, ["?"], ["a"], ["nobody"])
    with pytest.raises(ScorerError, match="'nobody'"):
        fitted(context).score(rows)


def test_matching_statistics_against_all_substrings() -> None:
    rng = random.Random(0)
    for _ in range(30):
        text, query = [rng.randrange(3) for _ in range(25)], [rng.randrange(4) for _ in range(20)]
        expected = [
            max(n for n in range(end + 1) if n == 0 or contains(text, query[end - n : end])) for end in range(1, len(query) + 1)
        ]
        assert list(SuffixAutomaton(text).matches(query)) == expected
