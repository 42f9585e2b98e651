"""Directions that another process or run has made: the very same scores, and no work."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.scorers.gradients import OWNERS, responses, small_context
from torch import Tensor, nn

from deattrib.attribution.context import ScorerContext
from deattrib.corpus.types import Corpus
from deattrib.models.language_model import Codec
from deattrib_scorers import gradient, influence, trak
from deattrib_scorers._linear import DirectionScorer

CASES = [
    (gradient.Gradient, {"direction": "forget-set"}),
    (gradient.Gradient, {"projection": 3, "checkpoint_weights": (0.5,)}),
    (gradient.Gradient, {"parameters": "adapter", "similarity": "cosine"}),
    (trak.Trak, {"rank": 3}),
    (influence.Influence, {"preconditioner": "ekfac", "layers": ("*mlp*",)}),
]


@pytest.fixture
def context(tiny_model: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus, tmp_path: Path) -> ScorerContext:
    return dataclasses.replace(small_context(tiny_corpus, tiny_model, tiny_codec), cache=tmp_path)


def scores(kind: type[DirectionScorer], params: dict[str, Any], context: ScorerContext) -> list[Tensor]:
    scorer = kind(kind.Params(**params))
    scorer.fit(context)
    rows = responses(context)
    return [scorer.score(rows), scorer.score_tokens(rows), scorer.score_owners(rows, OWNERS)]


@pytest.mark.parametrize(("kind", "params"), CASES)
def test_directions_are_made_once(
    context: ScorerContext, kind: type[DirectionScorer], params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = scores(kind, params, dataclasses.replace(context, cache=None))
    first = scores(kind, params, context)

    def never(*_: Any) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(kind, "make_directions", never)
    second = scores(kind, params, dataclasses.replace(context, rank=1))
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(alone, first, second, strict=True))
    fewer = {owner: rows[:2] for owner, rows in context.rows_by_owner.items()}
    for other in ({"rows_by_owner": fewer}, {"seed": 1}):
        with pytest.raises(AssertionError, match="made again"):
            scores(kind, params, dataclasses.replace(context, **other))


def test_another_model_has_other_directions(context: ScorerContext) -> None:
    kind, params = CASES[0]
    before = scores(kind, params, context)
    with torch.no_grad():
        next(context.original.model.parameters()).add_(0.01)
    assert torch.equal(scores(kind, params, context)[0], scores(kind, params, dataclasses.replace(context, cache=None))[0])
    assert not torch.equal(scores(kind, params, context)[0], before[0])


def test_a_fit_that_leaves_more_behind_is_not_kept(context: ScorerContext, tmp_path: Path) -> None:
    params = {"rank": 3, "soft_threshold": 2}
    first, second = scores(trak.Trak, params, context), scores(trak.Trak, params, context)
    assert torch.equal(first[0], second[0]) and not (tmp_path / "scorers").exists()
