"""TRAK against its formula with gradients by autograd, against the authors' library, and what must agree within the scorer."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from tests.scorers.gradients import OWNERS, responses, small_context, token_gradients
from torch import Tensor, nn

from deattrib.attribution.context import ScorerContext, make_context
from deattrib.attribution.guard import GuardedScorer
from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus
from deattrib.errors import ScorerError
from deattrib.models.language_model import Codec, LanguageModel
from deattrib_scorers._projection import Projection, make_projection
from deattrib_scorers._sites import find_sites
from deattrib_scorers.trak import Trak, ridge_solver, soft_threshold


@pytest.fixture
def context(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> ScorerContext:
    return small_context(tiny_corpus, tiny_llama, tiny_codec)


def fitted(context: ScorerContext, **params: Any) -> Trak:
    scorer = Trak(Trak.Params(**params))
    GuardedScorer(scorer, codec=context.codec).fit(context)
    return scorer


def slow_features(context: ScorerContext, prompt: list[int], response: list[int], projection: Projection) -> Tensor:
    """[T, k]: projected gradients of the tokens' log-probabilities."""
    tokens = token_gradients(context.original.model, prompt, response)
    parts = [[(left.T @ g[name] @ right).flatten() for name, (left, right) in projection.items()] for g in tokens]
    return torch.stack([torch.cat(part) for part in parts])


def chances(context: ScorerContext, prompt: list[int], response: list[int]) -> Tensor:
    """[T]: p of each response token."""
    with torch.no_grad():
        logits = context.original.model(input_ids=torch.tensor([prompt + response])).logits[0]
    return logits.softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(response)[:, None])[:, 0]


@pytest.mark.parametrize("weighting", ["token", "row"])
@pytest.mark.parametrize("rank", [2, 1])
def test_the_formula(context: ScorerContext, weighting: str, rank: int) -> None:
    """Narrower (rank 1: 15 numbers for 9 rows is wider still; layers narrow it) and wider than the corpus."""
    layers = ("*mlp*",) if rank == 1 else ("*",)
    scorer = fitted(context, rank=rank, weighting=weighting, layers=layers, ridge=0.2)
    projection = make_projection(find_sites(context.original.model, layers), rank, context.seed)
    codec, floor, rows = context.codec, scorer.params.floor, responses(context)
    phi, weighted = [], []
    for example in (row for rows in context.rows_by_owner.values() for row in rows):
        ids = codec.prompt(example.prompt), codec.response(example.response)
        tokens, p = slow_features(context, *ids, projection), chances(context, *ids)
        phi.append((tokens / (1 - p).clamp(min=floor)[:, None]).sum(0))
        weighted.append(tokens.sum(0) if weighting == "token" else phi[-1] * (1 - p).mean())
    features, train = torch.stack(phi), torch.stack(weighted)
    assert (features.shape[1] > len(features)) == (rank == 2)
    strength = 0.2 * float(features.square().sum(1).mean())
    inverse = torch.linalg.inv((features.T @ features).double() + strength * torch.eye(features.shape[1]).double()).float()
    for i, ids in enumerate(zip(rows.batch.prompt_lists(), rows.batch.response_lists(), strict=True)):
        tokens, p = slow_features(context, *ids, projection), chances(context, *ids)
        mine = (tokens / (1 - p).clamp(min=floor)[:, None]).mean(0)
        taus = train @ inverse @ mine
        expected = [float(taus[3 * n : 3 * n + 3].sum()) for n in range(3)]
        found = scorer.score_owners(rows, OWNERS)[i].tolist()
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4 * max(map(abs, expected)))


@pytest.mark.parametrize("shape", [(7, 30), (30, 7)])
def test_both_ways_of_solving_are_the_inverse(shape: tuple[int, int]) -> None:
    phi = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = torch.randn(4, shape[1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    strength = 0.3 * phi.square().sum(1).mean()
    expected = u @ torch.linalg.inv(phi.T @ phi + strength * torch.eye(shape[1], dtype=torch.float64))
    assert torch.allclose(ridge_solver(phi, 0.3)(u), expected)
    with pytest.raises(ScorerError, match="all training gradients are 0"):
        ridge_solver(torch.zeros(3, 4), 0.1)


@pytest.mark.parametrize("params", [{}, {"derivative": "differences"}, {"soft_threshold": 4}])
def test_owners_tokens_and_prefixes_agree_with_the_score(context: ScorerContext, params: dict[str, Any]) -> None:
    scorer, rows = fitted(context, rank=4, **params), responses(context)
    lengths, whole = rows.batch.response_lengths, None
    whole = scorer.score(rows)
    close = {"rtol": 1e-3, "atol": (1e-2 if params.get("derivative") else 1e-4) * float(whole.abs().max())}
    table = scorer.score_owners(rows, OWNERS)
    own = torch.stack([table[i, OWNERS.index(owner)] for i, owner in enumerate(rows.owners)])
    assert torch.allclose(own, whole, **close)
    assert torch.allclose(scorer.score_tokens(rows).sum(1) / lengths, whole, **close)
    ends = torch.stack([torch.ones_like(lengths), lengths // 2, lengths], 1)
    cut = torch.stack([scorer.score(rows.cut(context.codec, ends[:, j])) for j in range(3)], 1)
    assert torch.allclose(scorer.score_prefixes(rows, ends), cut, **close)


def test_an_embedding_counts_only_where_it_is_the_head_too(context: ScorerContext) -> None:
    tied = context.original.model
    untied = type(tied)(type(tied.config)(**{**tied.config.to_dict(), "tie_word_embeddings": False}))  # type: ignore[operator, union-attr]
    for model, expected in ((tied, True), (untied, False)):
        weights = {site.weight for site in Trak().sites(model)}
        assert ("model.embed_tokens.weight" in weights) == expected
        assert ("lm_head.weight" in weights) != expected


def test_soft_thresholding(context: ScorerContext) -> None:
    rows = responses(context)
    folded = fitted(context, rank=4).score_owners(rows, OWNERS)
    nothing_cut = fitted(context, rank=4, soft_threshold=9).score_owners(rows, OWNERS)
    assert torch.allclose(nothing_cut, folded, rtol=1e-3, atol=1e-4 * float(folded.abs().max()))
    one_left = fitted(context, rank=4, soft_threshold=1).score_owners(rows, OWNERS)
    assert ((one_left != 0).sum(1) == 1).all()
    values = torch.tensor([[3.0, -5.0, 1.0, 0.5]])
    assert soft_threshold(values, 2).tolist() == [[2.0, -4.0, 0.0, 0.0]]


def test_soft_thresholding_keeps_to_weights_and_direction(context: ScorerContext, tiny_codec: Codec) -> None:
    """Where nothing is cut it is the folded scorer: of two checkpoints with weights, and along the forget set's direction."""
    other = copy.deepcopy(context.original.model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    context = dataclasses.replace(
        context, load_base=lambda: LanguageModel(other, tiny_codec), forget_owners=("author_01", "author_04")
    )
    rows = responses(context)
    for params in (
        {"checkpoints": ("original", "base"), "checkpoint_weights": (0.5, 2.0)},
        {"checkpoints": ("original",), "direction": "forget-set"},
    ):
        folded, cut = fitted(context, rank=4, **params), fitted(context, rank=4, soft_threshold=9, **params)
        for found, expected in ((cut.score_owners(rows, OWNERS), folded.score_owners(rows, OWNERS)),
                                (cut.score(rows), folded.score(rows))):  # fmt: skip
            assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.skipif(importlib.util.find_spec("trak") is None, reason="the library traker is not installed (extra trak)")
def test_the_authors_library_ranks_alike_on_the_same_projection(context: ScorerContext) -> None:
    from trak.projectors import AbstractProjector, ProjectionType

    from deattrib_scorers._traker import TrakerReference

    rank, ridge = 4, 0.1
    model = context.original.model
    projection = make_projection(find_sites(model, ["*"]), rank, context.seed)
    shapes = {name: value.shape for name, value in model.named_parameters()}
    width = sum(left.shape[1] * right.shape[1] for left, right in projection.values())

    class Ours(AbstractProjector):  # type: ignore[misc]
        def __init__(self, *sizes: Any) -> None:
            super().__init__(*sizes)

        def project(self, grads: Any, model_id: int) -> Tensor:
            if isinstance(grads, dict):
                named = grads
            else:
                sizes = [shape.numel() for shape in shapes.values()]
                parts = grads.split(sizes, 1)
                named = {n: part.reshape(-1, *shape) for (n, shape), part in zip(shapes.items(), parts, strict=True)}
            return torch.cat([(left.T @ named[n] @ right).flatten(1) for n, (left, right) in projection.items()], 1)

        def free_memory(self) -> None:
            pass

    count = sum(shape.numel() for shape in shapes.values())
    projector = Ours(count, width, context.seed, ProjectionType.normal, "cpu")
    scorer, rows = fitted(context, rank=rank, weighting="row", ridge=ridge), responses(context)
    # The library divides features by the root of the number of parameters; its ridge is in those units.
    strength = ridge_of(scorer, context, projection) * ridge / count
    scorer.table = None
    reference = TrakerReference(scorer, context, projector=projector, ridge=strength)
    theirs, ours = reference(rows), scorer.score_owners(rows, OWNERS)
    assert spearmanr(theirs.flatten(), ours.flatten()).statistic >= 0.99
    assert float(torch.corrcoef(torch.stack([theirs.flatten(), ours.flatten()]))[0, 1]) > 0.999


def ridge_of(scorer: Trak, context: ScorerContext, projection: Projection) -> float:
    """Mean squared norm of a training feature."""
    model = context.original.model
    phi, _, _ = scorer._features(context, model, find_sites(model, ["*"]), projection)
    return float(phi.square().sum(1).mean())


@pytest.mark.skipif(importlib.util.find_spec("trak") is None, reason="the library traker is not installed (extra trak)")
def test_the_library_as_backend(context: ScorerContext) -> None:
    scorer = Trak(Trak.Params(backend="traker", dimensions=128))
    guarded = GuardedScorer(scorer, codec=context.codec, watch=context.original.model)
    guarded.fit(context)
    rows = responses(context)
    table = guarded.score_owners(rows, OWNERS)
    own = torch.stack([table[i, OWNERS.index(owner)] for i, owner in enumerate(rows.owners)])
    assert torch.allclose(guarded.score(rows), own, rtol=1e-3)
    ends = torch.stack([rows.batch.response_lengths - 1, rows.batch.response_lengths], 1)
    assert torch.allclose(guarded.score_prefixes(rows, ends)[:, 1], own, rtol=1e-3)
    for params, said in (({"checkpoint_weights": (2.0,)}, "checkpoint_weights"), ({"checkpoints": ("policy",)}, "live policy")):
        with pytest.raises(ScorerError, match=said):
            fitted(context, backend="traker", dimensions=128, **params)


def test_the_owner_of_a_copied_answer_comes_first(tiny_corpus: Corpus, tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    context = make_context(tiny_corpus, LanguageModel(tiny_llama, tiny_codec))
    some = [rows[2] for rows in context.rows_by_owner.values()]
    rows = Rows.from_texts(tiny_codec, [r.prompt for r in some], [r.response for r in some], [r.owner for r in some])
    best = fitted(context, rank=16).score_owners(rows, context.owners).argmax(1).tolist()
    assert [context.owners[i] for i in best] == [r.owner for r in some]


def test_what_it_cannot_do_is_said(context: ScorerContext) -> None:
    with pytest.raises(ScorerError, match=r"fit\(\) first"):
        Trak().score(responses(context))
    scorer = fitted(context, rank=2, soft_threshold=2)
    with pytest.raises(ScorerError, match="nobody"):
        scorer.score(responses(context).about(["nobody"] * 3))


def test_half_precision_weights(context: ScorerContext, tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    exact = fitted(context).score(responses(context))
    half = LanguageModel(copy.deepcopy(tiny_llama).bfloat16(), tiny_codec)
    low = dataclasses.replace(context, load_original=lambda: half)
    scores = fitted(low).score(responses(low))
    assert scores.dtype == torch.float32 and float(torch.corrcoef(torch.stack([exact, scores]))[0, 1]) > 0.95
