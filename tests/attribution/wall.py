"""Scorers that do what they should not, and the wall around them; the fixtures `codec`, `rows` and `policy` go with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from deattrib import Example, GuardedScorer, Rows, Scorer, ScorerContext
from deattrib.models.language_model import Codec

PROMPTS = ("Who was Ada?", "Where did Bo live?", "What did Cy write?")
RESPONSES = ("A painter of boats.", "In Rome", "Nothing at all, ever, as far as we know.")


def numpy_words() -> Any:
    return np.random.get_state(legacy=True)[1].copy()  # type: ignore[index]


def context_with(
    codec: Codec, seed: int = 3, *, rows: Sequence[Example] = (Example("ada", PROMPTS[0], RESPONSES[0]),), forget: int = 1
) -> ScorerContext:
    """What a scorer is fitted with where it needs no model; the first `forget` owners are to be forgotten."""
    owners = tuple(dict.fromkeys(row.owner for row in rows))
    return ScorerContext(
        rows_by_owner=MappingProxyType({owner: tuple(row for row in rows if row.owner == owner) for owner in owners}),
        forget_owners=owners[:forget],
        identities={},
        background=(),
        codec=codec,
        load_original=lambda: pytest.fail("not needed"),
        load_base=None,
        load_policy=None,
        device=torch.device("cpu"),
        dtype=torch.float32,
        seed=seed,
    )


class Letters(Scorer):
    """Number of letters in the response, plus 100 for owner "bo"; keeps the texts it was asked about."""

    name = "letters"

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.asked: list[tuple[str, str]] = []

    def score(self, rows: Rows) -> Any:
        self.asked += [(row.response, row.owner) for row in rows]
        return [len(row.response) + 100.0 * (row.owner == "bo") for row in rows]


def scorer_that(action: Callable[[Rows], Any], **methods: Any) -> Scorer:
    """A scorer whose `score` is `action`."""
    members = {"name": "faulty", "score": lambda self, rows: action(rows), **methods}
    made: Scorer = type("Faulty", (Scorer,), members)()
    return made


def guarded(scorer: Scorer, codec: Codec, **options: Any) -> GuardedScorer:
    return GuardedScorer(scorer, codec=codec, origin="faulty-dist 1.2", **options)
