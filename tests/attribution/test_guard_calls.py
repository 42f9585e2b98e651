"""The wall around scorers: fitting and closing, models that only the run may change, and time."""

from __future__ import annotations

import random
import time
import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.attribution.wall import Letters, context_with, guarded, numpy_words, scorer_that
from torch import nn

from deattrib import Rows, Scorer, ScorerContext, ScorerError
from deattrib.attribution.settings import GuardSettings
from deattrib.models.language_model import Codec


def _step(policy: nn.Sequential) -> None:
    with torch.no_grad():
        policy.get_parameter("0.bias").add_(1)


# -- fit and close -----------------------------------------------------------------------------------------------------
def test_fit_is_seeded_from_the_context_and_leaves_the_generators_alone(codec: Codec) -> None:
    class Drawing(Letters):
        def fit(self, context: ScorerContext) -> None:
            assert torch.is_grad_enabled()
            self.drawn = (torch.rand(1).item(), random.random(), float(np.random.rand()))

    states = torch.get_rng_state(), random.getstate(), numpy_words()
    scorers = [Drawing(), Drawing(), Drawing()]
    for scorer, seed in zip(scorers, (3, 3, 4), strict=True):
        with torch.no_grad():
            guarded(scorer, codec).fit(context_with(codec, seed))
    assert scorers[0].drawn == scorers[1].drawn
    assert all(a != b for a, b in zip(scorers[1].drawn, scorers[2].drawn, strict=True))
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert (numpy_words() == states[2]).all()


@pytest.mark.parametrize("method", ["fit", "close"])
def test_errors_in_fit_and_close_are_named(codec: Codec, method: str) -> None:
    def fail(self: Any, *_: Any) -> None:
        raise ValueError("no")

    guard = guarded(scorer_that(lambda _: [], **{method: fail}), codec)
    with pytest.raises(ScorerError, match=rf"'faulty' \(faulty-dist 1.2\) in {method}\(\): it raised ValueError: no"):
        guard.fit(context_with(codec)) if method == "fit" else guard.close()


def test_fit_must_not_touch_the_policy(codec: Codec, policy: nn.Sequential) -> None:
    guard = guarded(scorer_that(lambda _: [], fit=lambda self, context: _step(policy)), codec, watch=policy)
    with pytest.raises(ScorerError, match=r"in fit\(\): it touched the policy"):
        guard.fit(context_with(codec))


@pytest.mark.parametrize("which", ["original", "base"])
@pytest.mark.parametrize("when", ["fit", "score"])
def test_frozen_models_are_watched_too(codec: Codec, rows: Rows, policy: nn.Sequential, which: str, when: str) -> None:
    """Past autograd as well. Later the original is a view of the policy's own weights, which are watched as such."""
    model: Any = SimpleNamespace(model=policy)
    context = replace(context_with(codec), load_original=lambda: model, load_base=lambda: model)

    class Writes(Letters):
        def fit(self, context: ScorerContext) -> None:
            self.asked_for = getattr(context, which).model
            if when == "fit":
                next(self.asked_for.parameters()).data.mul_(2)

        def score(self, rows: Rows) -> Any:
            next(self.asked_for.parameters()).data.mul_(2)
            return super().score(rows)

    guard = guarded(Writes(), codec, watch=policy if which == "original" else None)
    if when == "fit":
        with pytest.raises(ScorerError, match=rf"in fit\(\): .*it touched the {which} model: its values were written to past"):
            guard.fit(context)
        return
    guard.fit(context)
    with pytest.raises(ScorerError, match=r"it touched the (policy|base model): its values"):
        guard.score(rows)


@pytest.mark.parametrize("inner", [False, True], ids=["itself", "what it wraps"])
def test_the_original_is_watched_until_there_is_a_policy(codec: Codec, rows: Rows, policy: nn.Sequential, inner: bool) -> None:
    model: Any = SimpleNamespace(model=policy)

    class Writes(Letters):
        def fit(self, context: ScorerContext) -> None:
            self.asked_for = context.load_original().model

        def score(self, rows: Rows) -> Any:
            next(self.asked_for.parameters()).data.mul_(2)
            return super().score(rows)

        def calibrate_as(self) -> Scorer:
            wrapped = Writes()
            wrapped.asked_for = self.asked_for
            return wrapped if inner else self

    guard = guarded(Writes(), codec)
    guard.fit(replace(context_with(codec), load_original=lambda: model))
    with pytest.raises(ScorerError, match="it touched the original model: its values"):
        guard.calibrate_as().score(rows)
    guard.watch = nn.Linear(2, 2)  # its weights are a policy's from here on, which trains them
    guard.score(rows)


def test_what_a_scorer_guards_itself_watches_no_original_afterwards(codec: Codec, rows: Rows, policy: nn.Sequential) -> None:
    """The guard around it does, and knows when the original becomes a policy."""
    model: Any = SimpleNamespace(model=policy)

    class Reads(Letters):
        def fit(self, context: ScorerContext) -> None:
            context.load_original()

    class Wraps(Letters):
        def fit(self, context: ScorerContext) -> None:
            self.inner = guarded(Reads(), codec)
            self.inner.fit(context)

        def score(self, rows: Rows) -> Any:
            return self.inner.score(rows)

    guard = guarded(Wraps(), codec)
    guard.fit(replace(context_with(codec), load_original=lambda: model))
    guard.release_original()
    before = guard.score(rows)
    next(policy.parameters()).data.mul_(2)
    assert torch.equal(guard.score(rows), before)  # and no error that names a changed original


def test_closing_twice_closes_once(codec: Codec) -> None:
    closed: list[int] = []
    guard = guarded(scorer_that(lambda _: [], close=lambda self: closed.append(1)), codec)
    guard.close()
    guard.close()
    assert closed == [1]


# -- time --------------------------------------------------------------------------------------------------------------
def test_time_adds_up(codec: Codec, rows: Rows) -> None:
    def act(_: Rows) -> Any:
        time.sleep(0.02)
        return [0.0] * 3

    guard = guarded(scorer_that(act), codec)
    guard.score(rows)
    guard.score(rows)
    assert 0.04 <= guard.seconds < 2


def test_a_slow_call_is_reported_while_it_runs(codec: Codec, rows: Rows) -> None:
    heard: list[int] = []

    def act(_: Rows) -> Any:
        end = time.monotonic() + 5
        while not caught and time.monotonic() < end:
            time.sleep(0.01)
        heard.append(len(caught))
        return [0.0] * 3

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        guarded(scorer_that(act), codec, settings=GuardSettings(slow_warning=0.05)).score(rows)
    assert heard and heard[0] >= 1
    assert "Scorer 'faulty' (faulty-dist 1.2) is still in score() after 0." in str(caught[0].message)


def test_a_quick_call_is_not_reported(codec: Codec, rows: Rows) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        guarded(Letters(), codec, settings=GuardSettings(slow_warning=0.1)).score(rows)
        guarded(Letters(), codec, settings=GuardSettings(slow_warning=0)).score(rows)
        time.sleep(0.2)
    assert not caught
