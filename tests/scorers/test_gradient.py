"""Gradient similarity against per-row gradients by autograd, and what must agree within the scorer."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.scorers.gradients import OWNERS, dot, mean_gradient, norm, responses, small_context
from tests.scorers.gradients import Gradient as Slow
from torch import nn

from deattrib.attribution.context import ScorerContext, make_context
from deattrib.attribution.guard import GuardedScorer
from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus
from deattrib.errors import ScorerError
from deattrib.models.batch import TokenBatch
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.loading import save_model
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib_scorers._adapter import AdapterSpace
from deattrib_scorers._sites import find_sites
from deattrib_scorers.gradient import Gradient


@pytest.fixture
def context(tiny_model: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> ScorerContext:
    return small_context(tiny_corpus, tiny_model, tiny_codec)


def fitted(context: ScorerContext, **params: Any) -> Gradient:
    scorer = Gradient(Gradient.Params(**params))
    GuardedScorer(scorer, codec=context.codec).fit(context)
    return scorer


def training_gradients(context: ScorerContext, model: nn.Module) -> dict[str, list[Slow]]:
    codec = context.codec
    return {
        owner: [mean_gradient(model, codec.prompt(row.prompt), codec.response(row.response)) for row in rows]
        for owner, rows in context.rows_by_owner.items()
    }


def by_hand(context: ScorerContext, rows: Rows, similarity: str, model: nn.Module) -> list[list[float]]:
    """The formulas of the papers, row against row: [rows, owners]."""
    batch = rows.batch
    mine = [mean_gradient(model, *ids) for ids in zip(batch.prompt_lists(), batch.response_lists(), strict=True)]
    theirs = training_gradients(context, model)

    def one(response: Slow, training: Slow) -> float:
        if similarity == "dot":
            return dot(response, training)
        value = dot(response, training) / norm(training)
        return value / norm(response) if similarity == "cosine" else value

    return [[sum(one(response, training) for training in theirs[owner]) for owner in OWNERS] for response in mine]


@pytest.mark.parametrize("similarity", ["dot", "normalised", "cosine"])
def test_the_formula(context: ScorerContext, similarity: str) -> None:
    rows = responses(context)
    scorer = fitted(context, similarity=similarity, contrast=False)
    expected = by_hand(context, rows, similarity, context.original.model)
    for found, wanted in zip(scorer.score_owners(rows, OWNERS).tolist(), expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5 * max(map(abs, wanted)))
    contrasted = fitted(context, similarity=similarity).score_owners(rows, OWNERS)
    for found, wanted in zip(contrasted.tolist(), expected, strict=True):
        others = [(sum(wanted) - value) / 2 for value in wanted]
        against = [value - other for value, other in zip(wanted, others, strict=True)]
        assert found == pytest.approx(against, rel=1e-3, abs=1e-4 * max(map(abs, wanted)))


@pytest.mark.parametrize(
    "params",
    [
        {"similarity": "dot"},
        {"similarity": "cosine"},
        {"derivative": "differences"},
        {"projection": 4},
        {"parameters": "adapter"},
        {"direction": "forget-set"},
    ],
)
def test_owners_tokens_and_prefixes_agree_with_the_score(context: ScorerContext, params: dict[str, Any]) -> None:
    scorer, rows = fitted(context, **params), responses(context)
    lengths = rows.batch.response_lengths
    whole = scorer.score(rows)
    close = {"rtol": 1e-3, "atol": (5e-3 if params.get("derivative") else 1e-4) * float(whole.abs().max())}
    table = scorer.score_owners(rows, OWNERS)
    own = torch.stack([table[i, OWNERS.index(owner)] for i, owner in enumerate(rows.owners)])
    assert torch.allclose(own, whole, **close)
    assert torch.allclose(scorer.score_tokens(rows).sum(1) / lengths, whole, **close)
    ends = torch.stack([torch.ones_like(lengths), lengths // 2, lengths, lengths + 3], 1)
    prefixes = scorer.score_prefixes(rows, ends)
    cut = torch.stack([scorer.score(rows.cut(context.codec, ends[:, j])) for j in range(4)], 1)
    assert torch.allclose(prefixes, cut, **close) and torch.allclose(prefixes[:, 2], whole, **close)
    assert torch.equal(prefixes[:, 2], prefixes[:, 3])
    small = Gradient(scorer.params.model_copy(update={"batch_size": 1}))
    small.fit(context)
    assert torch.allclose(small.score(rows), whole, **close)


def test_checkpoints_add_up(context: ScorerContext, tiny_codec: Codec, tmp_path: Path) -> None:
    other = copy.deepcopy(context.original.model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    save_model(other, tiny_codec.tokenizer, tmp_path)
    context, rows = dataclasses.replace(context, load_base=lambda: LanguageModel(other, tiny_codec)), responses(context)
    one, two = (fitted(context, checkpoints=(name,)).score(rows) for name in ("original", "base"))
    both = fitted(context, checkpoints=("original", str(tmp_path)), checkpoint_weights=(0.5, 2.0)).score(rows)
    assert torch.allclose(both, 0.5 * one + 2.0 * two, rtol=1e-4)
    assert torch.equal(fitted(context, checkpoints=("auto",)).score(rows), two)
    with pytest.raises(ScorerError, match="1 numbers for 2 checkpoints"):
        fitted(context, checkpoints=("original", "base"), checkpoint_weights=(1.0,))
    with pytest.raises(ScorerError, match=r"model\.base"):
        fitted(dataclasses.replace(context, load_base=None), checkpoints=("base",))


def test_the_forget_set_has_a_direction_of_its_own(context: ScorerContext) -> None:
    context = dataclasses.replace(context, forget_owners=("author_01", "author_04"))
    rows = responses(context)
    table = fitted(context).score_owners(rows, OWNERS)
    shared = fitted(context, direction="forget-set").score(rows)
    expected = torch.stack([table[0, 1] + table[0, 2], table[1, 1] + table[1, 2], table[2, 0]])
    assert torch.allclose(shared, expected, rtol=1e-3, atol=1e-4 * float(table.abs().max()))


def test_a_projection_is_of_the_matrices_only(context: ScorerContext) -> None:
    """Wider than every matrix it is none; what is no matrix (norms, biases) has its part in either."""
    rows = responses(context)
    for similarity in ("dot", "normalised"):
        exact = fitted(context, similarity=similarity).score_owners(rows, OWNERS)
        found = fitted(context, similarity=similarity, projection=1000).score_owners(rows, OWNERS)
        assert torch.allclose(found, exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))
    vectors = fitted(context, layers=("*norm*",) if hasattr(context.original.model, "model") else ("*ln_*",), projection=4)
    assert float(vectors.score_owners(rows, OWNERS).abs().max()) > 0


def test_in_a_run_the_original_is_asked_not_the_policy(context: ScorerContext, nudge: Callable[[Any], None]) -> None:
    """The original moves into the policy after fitting; the adapter changes, the scores do not."""
    rows = responses(context)
    scorer, following = fitted(context), fitted(context, checkpoints=("policy",))
    before = scorer.score(rows)
    assert torch.equal(following.score(rows), before)
    policy = Policy(context.original.clone(), context.codec, PolicySettings(rank=2, alpha=4.0), seed=0)
    nudge(policy)
    inside = policy.original()
    live = dataclasses.replace(context, load_original=lambda: inside, load_policy=lambda: policy)
    scorer.context = following.context = live
    guarded = GuardedScorer(scorer, codec=context.codec, watch=policy)  # raises if a parameter, flag or hook is left changed
    assert torch.allclose(guarded.score(rows), before, rtol=1e-4)
    assert guarded.score_owners(rows, OWNERS).shape == (3, 3)
    moved = GuardedScorer(following, codec=context.codec, watch=policy).score(rows)
    assert not torch.allclose(moved, before, rtol=1e-2)
    merged = dataclasses.replace(live, load_policy=None, load_original=lambda: policy.language_model())
    scorer.context = merged
    assert torch.allclose(scorer.score(rows), moved, rtol=1e-3, atol=1e-4 * float(moved.abs().max()))


def test_the_adapter_s_gradient_is_that_of_a_fresh_lora(context: ScorerContext, tiny_codec: Codec) -> None:
    rows, rank = responses(context), 3
    scorer = fitted(context, similarity="cosine", contrast=False, parameters="adapter", adapter_rank=rank)
    sites = AdapterSpace.sites(context.original.model, find_sites(context.original.model, ["*"]))
    down = AdapterSpace(sites, rank, context.seed).down
    policy = Policy(context.original.clone(), tiny_codec, PolicySettings(rank=rank, alpha=float(rank)), seed=0)
    parameters = dict(policy.backbone.named_parameters())
    for name, value in down.items():
        stem = "base_model.model." + name.removesuffix(".weight")
        parameters[f"{stem}.lora_A.default.weight"].data.copy_(value)
    ups = [p for name, p in parameters.items() if ".lora_B." in name]
    assert len(ups) == len(down)

    def gradient(batch: TokenBatch) -> torch.Tensor:
        with torch.enable_grad():
            logits = policy(batch).logits.log_softmax(-1)
            value = logits.gather(2, batch.response_ids[:, :, None]).mean()
            return torch.cat([g.flatten() for g in torch.autograd.grad(value, ups)])

    mine = [gradient(Rows.from_texts(tiny_codec, [r.prompt], [r.response], [r.owner]).batch) for r in rows]
    for i, owner in enumerate(rows.owners):
        theirs = [gradient(tiny_codec.encode([e.prompt], [e.response])) for e in context.rows_by_owner[owner]]
        expected = sum(float(torch.nn.functional.cosine_similarity(mine[i], one, dim=0)) for one in theirs)
        assert float(scorer.score(rows)[i]) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_the_owner_of_a_copied_answer_comes_first(tiny_corpus: Corpus, tiny_model: nn.Module, tiny_codec: Codec) -> None:
    """With one row per owner no other can come before its own: that is the inequality of Cauchy and Schwarz."""
    context = make_context(tiny_corpus, LanguageModel(tiny_model, tiny_codec))
    context = dataclasses.replace(context, rows_by_owner={owner: rows[2:3] for owner, rows in context.rows_by_owner.items()})
    some = [rows[0] for rows in context.rows_by_owner.values()]
    rows = Rows.from_texts(tiny_codec, [r.prompt for r in some], [r.response for r in some], [r.owner for r in some])
    for params in ({}, {"similarity": "cosine"}, {"projection": 16}):
        best = fitted(context, **params).score_owners(rows, context.owners).argmax(1).tolist()
        assert [context.owners[i] for i in best] == [r.owner for r in some]


def test_what_it_cannot_do_is_said(context: ScorerContext) -> None:
    rows = responses(context)
    with pytest.raises(ScorerError, match=r"fit\(\) first"):
        Gradient().score(rows)
    with pytest.raises(ScorerError, match="nobody"):
        fitted(context).score(rows.about(["nobody"] * 3))
    with pytest.raises(ScorerError, match="adapter"):
        fitted(context, parameters="adapter", projection=4)
    with pytest.raises(ScorerError, match="no linear layer"):
        norms = "*ln_*" if hasattr(context.original.model, "transformer") else "*norm*"
        fitted(context, parameters="adapter", layers=(norms,))
