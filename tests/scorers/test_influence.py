"""Influence functions: preconditioners against matrices written out, captum against ours."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
from typing import Any

import pytest
import torch
from tests.scorers.gradients import OWNERS, mean_gradient, responses, small_context
from torch import Tensor, nn

from deattrib.attribution.context import ScorerContext, make_context
from deattrib.attribution.guard import GuardedScorer
from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus
from deattrib.errors import ScorerError
from deattrib.models.language_model import Codec, LanguageModel
from deattrib_scorers._curvature import DiagonalFisher, Ekfac
from deattrib_scorers._factors import Factors, Pair, gradient_factors
from deattrib_scorers._sites import find_sites
from deattrib_scorers._sums import response_means
from deattrib_scorers.gradient import Gradient
from deattrib_scorers.influence import Influence

needs_captum = pytest.mark.skipif(
    importlib.util.find_spec("captum") is None, reason="the library captum is not installed (extra captum)"
)


@pytest.fixture
def context(tiny_model: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> ScorerContext:
    return small_context(tiny_corpus, tiny_model, tiny_codec)


def fitted(context: ScorerContext, **params: Any) -> Influence:
    scorer = Influence(Influence.Params(**params))
    GuardedScorer(scorer, codec=context.codec, watch=context.original.model).fit(context)
    return scorer


def gradients(context: ScorerContext) -> tuple[list[dict[str, Tensor]], list[list[dict[str, Tensor]]]]:
    """Of the responses, and of the training rows by owner: mean log-probability per token, by autograd."""
    model, codec, batch = context.original.model, context.codec, responses(context).batch
    mine = [mean_gradient(model, *ids) for ids in zip(batch.prompt_lists(), batch.response_lists(), strict=True)]
    theirs = [
        [mean_gradient(model, codec.prompt(row.prompt), codec.response(row.response)) for row in rows]
        for rows in context.rows_by_owner.values()
    ]
    return mine, theirs


@pytest.mark.parametrize("preconditioner", ["fisher", "adam"])
def test_the_formula_of_the_diagonal_ones(context: ScorerContext, preconditioner: str) -> None:
    settings = {"preconditioner": preconditioner, "labels": "data", "damping": 0.3, "contrast": False}
    found = fitted(context, **settings).score_owners(responses(context), OWNERS)
    mine, theirs = gradients(context)
    lengths = torch.tensor([len(context.codec.response(r.response)) for rows in context.rows_by_owner.values() for r in rows])
    expected = torch.zeros(3, 3)
    for name in mine[0]:
        rows = torch.stack([g[name] for owner in theirs for g in owner])
        if preconditioner == "fisher":  # 1/T |sum over tokens|^2 = T |mean over tokens|^2
            matrix = (rows.square() * lengths.view(-1, *[1] * (rows.dim() - 1))).mean(0)
        else:  # the batches are the owners' three rows
            matrix = rows.unflatten(0, (3, 3)).mean(1).square().mean(0).sqrt()
        matrix = matrix + 0.3 * matrix.mean()
        for j in range(3):
            solved = rows[3 * j : 3 * j + 3].sum(0) / matrix
            expected[:, j] += torch.stack([(g[name] * solved).sum() for g in mine])
    assert torch.allclose(found, expected, rtol=2e-3, atol=1e-4 * float(expected.abs().max()))


def test_the_fisher_matrix_is_that_of_the_mean_loss_per_token(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    """Drawn often, against its definition: a backward pass for every token that the model could say, at every position."""
    name = "model.layers.1.self_attn.o_proj.weight"
    prompts, texts = ["Who?", "Where was it?"], ["Never", "In a town by the sea, they say."]
    expected, lengths = torch.zeros(32, 32), []
    for prompt, text in zip(prompts, texts, strict=True):
        before, after = tiny_codec.prompt(prompt), tiny_codec.response(text)
        model = copy.deepcopy(tiny_llama).requires_grad_(True)
        logits = model(input_ids=torch.tensor([before + after])).logits[0].log_softmax(-1)[len(before) - 1 : -1]
        steps, vocabulary = logits.shape
        each = torch.eye(steps * vocabulary).view(-1, steps, vocabulary)
        for some in each.split(2048):
            (rows,) = torch.autograd.grad(logits, [model.get_parameter(name)], some, retain_graph=True, is_grads_batched=True)
            chance = (some * logits.detach().exp()).sum((1, 2))
            expected += torch.einsum("n,nlr->lr", chance, rows.square()) / steps / len(prompts)
        lengths.append(steps)
    assert max(lengths) > 3 * min(lengths)
    draws, sites = 256, find_sites(tiny_llama, [name])
    fisher, generator = DiagonalFisher({name: 32}), torch.Generator().manual_seed(0)
    for prompt, text in zip(prompts, texts, strict=True):
        batch = tiny_codec.encode([prompt] * draws, [text] * draws)
        weigh = response_means(batch, DiagonalFisher.exponent)
        fisher.see(gradient_factors(tiny_llama, sites, batch, weigh, draw=generator)[0], 0)
    found = fisher.moments[name] / fisher.count
    assert float(found.sum()) == pytest.approx(float(expected.sum()), rel=0.1)
    assert float((found - expected).norm() / expected.norm()) < 0.2


@pytest.mark.parametrize("labels", ["sampled", "data"])
@pytest.mark.parametrize("preconditioner", ["fisher", "ekfac"])
def test_the_batch_size_decides_nothing(context: ScorerContext, preconditioner: str, labels: str) -> None:
    """Neither padding nor the order of draws: rows one by one, where nothing is padded, and rows of all lengths together.

    In double precision: in float32 rounding turns eigenvectors of nearly equal eigenvalues into each other.
    """
    context.original.model.double()
    found = [
        fitted(context, preconditioner=preconditioner, labels=labels, batch_size=size).score_owners(responses(context), OWNERS)
        for size in (1, 2, 32)
    ]
    for other in found[1:]:
        assert float((other - found[0]).norm() / found[0].norm()) < 1e-6


def test_ekfac_of_independent_factors_is_the_exact_inverse() -> None:
    """One position per row, inputs and output gradients independent: the Fisher matrix is then a Kronecker product."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 3, generator=generator, dtype=torch.float64) @ torch.randn(
        3, 3, generator=generator, dtype=torch.float64
    )
    outputs = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    # Every pair of an input and an output gradient once: independent exactly, not on average.
    left, right = outputs.repeat_interleave(3, 0), inputs.repeat(2, 1)
    curvature = Ekfac({"w": 2}, widest=10)
    for turn in range(2):
        curvature.see(Factors(6, {"w": [Pair(left[:, None], right[:, None])]}), turn)
    rows = torch.einsum("bl,br->blr", left, right).flatten(1)
    fisher = rows.T @ rows / 6
    damped = fisher + 0.1 * fisher.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    value = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    assert torch.allclose(curvature.solve("w", value, 0.1).flatten(), torch.linalg.solve(damped, value.flatten()))
    diagonal = Ekfac({"w": 2}, widest=1)
    for turn in range(2):
        diagonal.see(Factors(6, {"w": [Pair(left[:, None], right[:, None])]}), turn)
    expected = value.flatten() / (fisher.diagonal() + 0.1 * fisher.diagonal().mean())
    assert torch.allclose(diagonal.solve("w", value, 0.1).flatten(), expected)


@pytest.mark.parametrize("preconditioner", ["fisher", "adam", "ekfac"])
def test_owners_tokens_and_prefixes_agree_with_the_score(context: ScorerContext, preconditioner: str) -> None:
    scorer, rows = fitted(context, preconditioner=preconditioner), responses(context)
    lengths, whole = rows.batch.response_lengths, scorer.score(rows)
    close = {"rtol": 1e-3, "atol": 1e-3 * float(whole.abs().max())}
    table = scorer.score_owners(rows, OWNERS)
    own = torch.stack([table[i, OWNERS.index(owner)] for i, owner in enumerate(rows.owners)])
    assert torch.allclose(own, whole, **close)
    assert torch.allclose(scorer.score_tokens(rows).sum(1) / lengths, whole, **close)
    ends = torch.stack([torch.ones_like(lengths), lengths // 2, lengths], 1)
    cut = torch.stack([scorer.score(rows.cut(context.codec, ends[:, j])) for j in range(3)], 1)
    assert torch.allclose(scorer.score_prefixes(rows, ends), cut, **close)
    again = fitted(context, preconditioner=preconditioner).score(rows)
    assert torch.equal(again, whole)


@pytest.mark.parametrize("preconditioner", ["fisher", "adam", "ekfac"])
def test_the_owner_of_a_copied_answer_comes_first(
    tiny_corpus: Corpus, tiny_llama: nn.Module, tiny_codec: Codec, preconditioner: str
) -> None:
    context = make_context(tiny_corpus, LanguageModel(tiny_llama, tiny_codec))
    context = dataclasses.replace(context, rows_by_owner={owner: rows[2:3] for owner, rows in context.rows_by_owner.items()})
    some = [rows[0] for rows in context.rows_by_owner.values()]
    rows = Rows.from_texts(tiny_codec, [r.prompt for r in some], [r.response for r in some], [r.owner for r in some])
    best = fitted(context, preconditioner=preconditioner).score_owners(rows, context.owners).argmax(1).tolist()
    assert [context.owners[i] for i in best] == [r.owner for r in some]


@needs_captum
def test_captum_s_tracin_gives_the_same_scores(context: ScorerContext) -> None:
    rows = responses(context)
    theirs = fitted(context, backend="captum-tracin", checkpoints=("original",)).score_owners(rows, OWNERS)
    ours = Gradient(Gradient.Params(similarity="dot", contrast=False, checkpoints=("original",)))
    ours.fit(context)
    assert float((ours.score_owners(rows, OWNERS) - theirs).norm() / theirs.norm()) < 1e-4


@needs_captum
def test_captum_s_tracin_keeps_to_weights_and_direction(context: ScorerContext, tiny_codec: Codec) -> None:
    other = copy.deepcopy(context.original.model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    context = dataclasses.replace(
        context, load_base=lambda: LanguageModel(other, tiny_codec), forget_owners=("author_01", "author_04")
    )
    rows = responses(context)
    params: dict[str, Any] = {"checkpoints": ("original", "base"), "checkpoint_weights": (0.5, 2.0), "direction": "forget-set"}
    theirs = fitted(context, backend="captum-tracin", **params).score_owners(rows, OWNERS)
    ours = Gradient(Gradient.Params(similarity="dot", contrast=False, **params))
    ours.fit(context)
    assert float((ours.score_owners(rows, OWNERS) - theirs).norm() / theirs.norm()) < 1e-4
    with pytest.raises(ScorerError, match="1 numbers for 2 checkpoints"):
        fitted(context, backend="captum-tracin", checkpoints=("original", "base"), checkpoint_weights=(1.0,))
    with pytest.raises(ScorerError, match="live policy"):
        fitted(context, backend="captum-tracin", checkpoints=("policy",))


@needs_captum
def test_captum_s_naive_influence_runs(context: ScorerContext) -> None:
    gpt2 = hasattr(context.original.model, "transformer")
    layer = "transformer.ln_f" if gpt2 else "model.norm"  # small: captum writes the Hessian out
    scorer = fitted(context, backend="captum-naive", captum_layers=(layer,), captum_projection=8)
    rows = responses(context)
    table = scorer.score_owners(rows, OWNERS)
    assert torch.isfinite(table).all() and float(table.std()) > 0
    own = torch.stack([table[i, OWNERS.index(owner)] for i, owner in enumerate(rows.owners)])
    assert torch.allclose(scorer.score(rows), own, rtol=1e-3)
    double = fitted(context, backend="captum-naive", captum_layers=(layer,), captum_projection=8, checkpoint_weights=(2.0,))
    assert torch.allclose(double.score_owners(rows, OWNERS), 2 * table, rtol=1e-3)
    with pytest.raises(ScorerError, match="one checkpoint"):
        fitted(context, backend="captum-naive", captum_layers=(layer,), checkpoints=("original", "base"))
    with pytest.raises(ScorerError, match="captum_layers"):
        fitted(context, backend="captum-naive")
