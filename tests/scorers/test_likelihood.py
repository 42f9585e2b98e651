"""Loss, zlib, min-k and min-k++ against second implementations in plain Python, one row and one prefix at a time."""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from deattrib.attribution.context import ScorerContext, make_context
from deattrib.attribution.guard import GuardedScorer
from deattrib.attribution.scorer import Rows, Scorer
from deattrib.corpus.types import Corpus
from deattrib.errors import ScorerError
from deattrib.models.language_model import Codec, LanguageModel
from deattrib_scorers.likelihood import Loss, MinK, MinKPlusPlus, Signal, Zlib
from deattrib_scorers.membership import Membership

ALL: list[type[Signal]] = [Loss, Zlib, MinK, MinKPlusPlus]


@pytest.fixture
def base(tiny_llama: nn.Module, tiny_codec: Codec) -> LanguageModel:
    model = copy.deepcopy(tiny_llama)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    return LanguageModel(model, tiny_codec, name="base")


@pytest.fixture
def context(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus, base: LanguageModel) -> ScorerContext:
    return make_context(tiny_corpus, LanguageModel(tiny_llama, tiny_codec), base=base)


@pytest.fixture
def rows(context: ScorerContext, tiny_corpus: Corpus) -> Rows:
    some = tiny_corpus.forget[:11]  # more than are looked at at once
    return Rows.from_texts(context.codec, [r.prompt for r in some], [r.response for r in some], [r.owner for r in some])


def fitted(cls: type[Scorer], context: ScorerContext, **params: Any) -> Any:
    scorer = cls(cls.Params(**params))
    scorer.fit(context)
    return scorer


def distributions(model: LanguageModel, prompt: list[int], response: list[int]) -> list[list[float]]:
    """log p over the vocabulary before each response token, by transformers alone."""
    with torch.no_grad():
        logits = model.model(input_ids=torch.tensor([prompt + response])).logits[0].double()
    return [logits[len(prompt) - 1 + i].log_softmax(-1).tolist() for i in range(len(response))]


def lowest(values: list[float], share: float) -> float:
    count = max(1, math.floor(len(values) * share + 1e-9))
    return sum(sorted(values)[:count]) / count


def by_hand(
    cls: type[Signal], model: LanguageModel, codec: Codec, prompt: list[int], response: list[int], share: float
) -> float:
    table = distributions(model, prompt, response)
    values = [line[token] for line, token in zip(table, response, strict=True)]
    mean = sum(values) / len(values)
    if cls is Loss:
        return mean
    if cls is Zlib:
        return mean / len(zlib.compress(codec.decode(response).encode("utf-8")))
    if cls is MinK:
        return lowest(values, share)
    scores = []
    for line, value in zip(table, values, strict=True):
        centre = sum(math.exp(x) * x for x in line)
        spread = sum(math.exp(x) * x * x for x in line) - centre * centre  # E[x^2] - E[x]^2
        scores.append((value - centre) / math.sqrt(spread))
    return lowest(scores, share)


@pytest.mark.parametrize("cls", ALL)
def test_whole_answers_and_prefixes_by_hand(cls: type[Signal], context: ScorerContext, rows: Rows) -> None:
    params = {"share": 0.3} if issubclass(cls, MinK) else {}
    scorer = fitted(cls, context, **params)
    lengths = rows.batch.response_lengths
    ends = torch.stack([torch.ones_like(lengths), lengths // 2, lengths], 1)
    given = scorer.score_prefixes(rows, ends)
    assert torch.equal(scorer.score(rows), given[:, -1])
    for i, (prompt, ids) in enumerate(zip(rows.batch.prompt_lists(), rows.batch.response_lists(), strict=True)):
        for column, end in enumerate(ends[i].tolist()):
            expected = by_hand(cls, context.original, context.codec, prompt, ids[:end], 0.3)
            assert float(given[i, column]) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("cls", ALL)
def test_without_a_reference_the_owner_asked_about_changes_nothing(
    cls: type[Signal], context: ScorerContext, rows: Rows
) -> None:
    guard = GuardedScorer(fitted(cls, context), codec=context.codec)
    scores = guard.score_owners(rows, context.owners)
    assert (scores == scores[:, :1]).all() and len(set(scores[:, 0].tolist())) > 1


@pytest.mark.parametrize("cls", ALL)
def test_the_share_against_the_base_is_a_difference(
    cls: type[Signal], context: ScorerContext, rows: Rows, base: LanguageModel
) -> None:
    given = fitted(cls, context, reference="base").score(rows)
    for i, (prompt, ids) in enumerate(zip(rows.batch.prompt_lists(), rows.batch.response_lists(), strict=True)):
        mine, theirs = (by_hand(cls, model, context.codec, prompt, ids, 0.2) for model in (context.original, base))
        assert float(given[i]) == pytest.approx(mine - theirs, rel=1e-3, abs=1e-4)


def test_the_share_of_loss_is_the_likelihood_ratio(context: ScorerContext, rows: Rows) -> None:
    """`membership` divides the very same sum by all tokens, names included."""
    loss, ratio = fitted(Loss, context, reference="counterfactual"), fitted(Membership, context, bound=1e9)
    kept = context.counterfactual_rows(rows).kept.sum(1)
    assert torch.allclose(loss.score(rows) * kept, ratio.score(rows) * rows.batch.response_lengths, atol=1e-3)


@pytest.mark.parametrize("cls", ALL)
def test_the_counterfactual_share_depends_on_the_owner(cls: type[Signal], context: ScorerContext, tiny_corpus: Corpus) -> None:
    names = {owner: context.identities[owner][0] for owner in context.owners}
    owners = list(tiny_corpus.forget_owners)
    text = f"{names[owners[0]]} and {names[owners[1]]} wrote plays."
    rows = Rows.from_texts(context.codec, ["Who wrote?"] * 2, [text] * 2, owners)
    first, second = fitted(cls, context, reference="counterfactual").score(rows).tolist()
    assert first != second


def test_an_empty_answer_is_a_number(context: ScorerContext) -> None:
    rows = Rows.from_texts(context.codec, ["?"], [""], [context.owners[0]])
    cut = rows.cut(context.codec, torch.tensor([0]))
    get: Callable[[type[Signal]], float] = lambda cls: float(fitted(cls, context).score(cut))  # noqa: E731
    assert [get(cls) for cls in ALL] == [0.0] * 4


def test_a_reference_that_is_not_there_is_refused(context: ScorerContext, tiny_corpus: Corpus) -> None:
    bare = make_context(tiny_corpus, context.original)
    with pytest.raises(ScorerError, match=r"min-k-plus-plus needs .*model\.base"):
        fitted(MinKPlusPlus, bare, reference="base")
