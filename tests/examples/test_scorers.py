"""The example scorers, as files: they keep the contract, and the wrapper does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from deattrib.testing import Bench, ScorerContract, World

EXAMPLES = Path(__file__).parents[2] / "examples"
CLIPPED = f"{EXAMPLES / 'clipped_scorer.py'}:Clipped"
OVERLAP = f"{EXAMPLES / 'deattrib-ngram-overlap' / 'deattrib_ngram_overlap.py'}:NgramOverlap"


class TestClippedClassifier(ScorerContract):
    scorer = CLIPPED


class TestClippedMembership(ScorerContract):
    scorer = CLIPPED
    params = {"scorer": "membership"}


class TestNgramOverlap(ScorerContract):
    scorer = OVERLAP


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_clipped_scores_are_the_wrapped_ones_within_the_range(contract_world: World, share: float) -> None:
    """With no share beyond the range the known answers keep their scores; with a quarter on each side most do not."""
    inner = Bench(OVERLAP, contract_world)
    clipped = Bench(CLIPPED, contract_world, params={"scorer": OVERLAP, "share": share})
    raw, made = inner.scores, clipped.scores
    low, high = clipped.guard.scorer.low, clipped.guard.scorer.high  # type: ignore[attr-defined]
    assert made.tolist() == pytest.approx([min(max(value, low), high) for value in raw.tolist()])
    beyond = int(((raw < low) | (raw > high)).sum())
    assert beyond == 0 if share == 0 else beyond > 0
    assert float(made.max() - made.min()) > 0
