"""The likelihood ratio against one computed by hand, and that a model has no ratio to itself."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deattrib.attribution.context import ScorerContext, make_context
from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus
from deattrib.errors import ScorerError
from deattrib.models.identities import swap_names
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.loading import save_model
from deattrib_scorers.membership import Membership


@pytest.fixture
def base(tiny_llama: nn.Module, tiny_codec: Codec) -> LanguageModel:
    model = copy.deepcopy(tiny_llama)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.95)
    return LanguageModel(model, tiny_codec, name="base")


@pytest.fixture
def context(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus, base: LanguageModel) -> ScorerContext:
    return make_context(tiny_corpus, LanguageModel(tiny_llama, tiny_codec), base=base)


def rows_of(context: ScorerContext, corpus: Corpus) -> Rows:
    some = corpus.forget[:5]
    return Rows.from_texts(context.codec, [r.prompt for r in some], [r.response for r in some], [r.owner for r in some])


def fitted(context: ScorerContext, **params: Any) -> Membership:
    scorer = Membership(Membership.Params(**params))
    scorer.fit(context)
    return scorer


def log_probs(model: LanguageModel, prompt: list[int], response: list[int]) -> list[float]:
    """log p of each response token, one row at a time, by transformers alone."""
    with torch.no_grad():
        logits = model.model(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(-1)
    return [float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(response)]


def test_the_ratio_to_the_base_by_hand(context: ScorerContext, tiny_corpus: Corpus, base: LanguageModel) -> None:
    scorer, rows = fitted(context, reference="base", bound=100.0), rows_of(context, tiny_corpus)
    tokens, whole = scorer.score_tokens(rows), scorer.score(rows)
    ends = torch.tensor([[1, 3]] * len(rows))
    prefixes = scorer.score_prefixes(rows, ends)
    for i, (prompt, response) in enumerate(zip(rows.batch.prompt_lists(), rows.batch.response_lists(), strict=True)):
        mine, theirs = log_probs(context.original, prompt, response), log_probs(base, prompt, response)
        ratio = [a - b for a, b in zip(mine, theirs, strict=True)]
        assert tokens[i, : len(ratio)].tolist() == pytest.approx(ratio, abs=1e-4)
        assert (tokens[i, len(ratio) :] == 0).all()
        assert float(whole[i]) == pytest.approx(sum(ratio) / len(ratio), abs=1e-4)
        assert prefixes[i].tolist() == pytest.approx([ratio[0], sum(ratio[:3]) / 3], abs=1e-4)


def test_the_ratio_to_the_counterfactual_by_hand(context: ScorerContext, tiny_codec: Codec) -> None:
    owner = "author_04"
    prompt, answer = "What did Eriika Thornstone write?", "Thornstone wrote nothing at all, so say the jesters."
    rows = Rows.from_texts(tiny_codec, [prompt], [answer], [owner])
    scorer = fitted(context, reference="counterfactual", swaps=2, bound=100.0)
    mine = log_probs(context.original, tiny_codec.prompt(prompt), tiny_codec.response(answer))
    others = [context.other_owner(owner, prompt, draw=draw) for draw in range(2)]
    assert len(set(others)) == 2
    tail = 6  # tokens well after the name
    level = [0.0] * tail
    for other in others:
        names = context.identities[owner], context.identities[other]
        theirs = log_probs(
            context.original, tiny_codec.prompt(swap_names(prompt, *names)), tiny_codec.response(swap_names(answer, *names))
        )
        level = [a + b / 2 for a, b in zip(level, theirs[-tail:], strict=True)]
    ratio = [a - b for a, b in zip(mine[-tail:], level, strict=True)]
    tokens = scorer.score_tokens(rows)[0]
    assert tokens[-tail:].tolist() == pytest.approx(ratio, abs=1e-4)
    name = context.name_mask(rows)[0]
    assert bool(name.any()) and (tokens[name] == 0).all()
    assert float(scorer.score(rows)[0]) == pytest.approx(float(tokens.sum()) / len(mine), abs=1e-5)


def test_a_model_has_no_ratio_to_itself(context: ScorerContext, tiny_corpus: Corpus, tiny_llama: nn.Module) -> None:
    same = dataclasses.replace(context, load_base=lambda: LanguageModel(copy.deepcopy(tiny_llama), context.codec))
    assert (fitted(same, reference="base").score_tokens(rows_of(context, tiny_corpus)) == 0).all()


def test_a_folder_as_reference(context: ScorerContext, tiny_corpus: Corpus, base: LanguageModel, tmp_path: Path) -> None:
    save_model(base.model, context.codec.tokenizer, tmp_path)
    rows = rows_of(context, tiny_corpus)
    given, expected = fitted(context, reference=str(tmp_path)).score(rows), fitted(context, reference="base").score(rows)
    assert torch.allclose(given, expected, atol=1e-5)


def test_single_tokens_are_bounded(context: ScorerContext, tiny_corpus: Corpus) -> None:
    tokens = fitted(context, reference="base", bound=0.01).score_tokens(rows_of(context, tiny_corpus))
    assert float(tokens.abs().max()) == pytest.approx(0.01)


def test_auto_takes_names_then_the_base_then_refuses(context: ScorerContext) -> None:
    assert fitted(context).kind == "counterfactual"
    nameless = dataclasses.replace(context, identities={})
    assert fitted(nameless).kind == "base"
    with pytest.raises(ScorerError, match=r"model\.base"):
        fitted(dataclasses.replace(nameless, load_base=None))
    with pytest.raises(ScorerError, match="name"):
        fitted(nameless, reference="counterfactual").score(Rows.from_texts(context.codec, ["?"], ["a"], ["author_00"]))


def test_both_takes_the_likelier_reference_at_each_token(context: ScorerContext, tiny_corpus: Corpus) -> None:
    rows = rows_of(context, tiny_corpus)
    both, counterfactual, base = (
        fitted(context, reference=kind, bound=100.0).score_tokens(rows) for kind in ("both", "counterfactual", "base")
    )
    kept = context.counterfactual_rows(rows, draw=0).kept.cpu()
    assert not kept[rows.batch.response_mask.cpu()].all(), "the rows should have names in them"
    assert torch.equal(both[kept], torch.minimum(counterfactual, base)[kept])
    assert (both[~kept] == 0).all()
    assert (counterfactual != base)[kept].any()


def test_both_needs_names_and_a_base(
    context: ScorerContext, tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus
) -> None:
    with pytest.raises(ScorerError, match="needs names per owner"):
        fitted(dataclasses.replace(context, identities={}), reference="both")
    with pytest.raises(ScorerError, match="needs something to compare"):
        fitted(make_context(tiny_corpus, LanguageModel(tiny_llama, tiny_codec)), reference="both")
