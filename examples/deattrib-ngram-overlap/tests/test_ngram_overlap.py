"""`ngram-overlap` keeps the contract of scorers, and its numbers are those of the formula."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from deattrib_ngram_overlap import NgramOverlap

from deattrib import Rows, make_scorer
from deattrib.testing import ScorerContract

if TYPE_CHECKING:  # loads torch, which no test needs before it runs
    from deattrib.testing import World


class TestNgramOverlap(ScorerContract):
    scorer = NgramOverlap


def test_the_formula_by_hand(contract_world: World) -> None:
    scorer = make_scorer({"name": "ngram-overlap", "order": 2})
    assert isinstance(scorer, NgramOverlap)
    scorer.names = {"ada"}
    scorer.known = {"one": {("tin",), ("box",), ("tin", "box")}, "two": {("box",)}}
    scorer.owners_of = Counter({("tin",): 1, ("box",): 2, ("tin", "box"): 1})
    rows = Rows.from_texts(contract_world.codec, ["?", "?"], ["Ada: a tin box!", ""], ["one", "one"])
    # a, tin, box, "a tin", "tin box": (0 + 1 + 1/2 + 0 + 1) / 5 for the first owner, (1/2) / 5 for the second
    assert scorer.score(rows) == pytest.approx([0.5, 0.0])
    assert scorer.score_owners(rows, ["two", "one"]) == [pytest.approx([0.1, 0.5]), [0.0, 0.0]]
