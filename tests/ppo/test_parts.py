"""Batches in parts of similar length: less padding, the same loss and the same gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.ppo.test_lessons import settings

from deattrib.models.batch import TokenBatch
from deattrib.models.ranks import ALONE
from deattrib.ppo import parts
from deattrib.ppo.parts import by_length
from deattrib.ppo.unlearner import Unlearner


def batch(*lengths: int, prompt: int = 2) -> TokenBatch:
    return TokenBatch.from_lists([[5] * prompt] * len(lengths), [list(range(9, 9 + n)) for n in lengths], 0)


def test_short_and_long_rows_go_apart() -> None:
    mixed = batch(*[200, 20] * 8)
    split = by_length(mixed, ALONE)
    assert [index for index, _ in split] == [list(range(1, 16, 2)), list(range(0, 16, 2))]
    short = split[0][1]
    assert short.response_ids.shape == (8, 20) and short.response_lists() == [list(range(9, 29))] * 8
    assert short.prompt_lists() == [[5, 5]] * 8


@pytest.mark.parametrize(
    "lengths",
    [
        [200, 180] * 8,  # hardly anything is padding
        [30, 5] * 8,  # too small to be worth it
        [400, 20] * 4,  # too few rows
    ],
)
def test_a_batch_stays_whole_where_that_is_as_good(lengths: list[int]) -> None:
    rows = batch(*lengths)
    assert [part for _, part in by_length(rows, ALONE)] == [rows]


@pytest.mark.parametrize("more", [{}, {"anchor": {"towards": "both"}}, {"anchor": {"towards": "base", "grafted": 0.5}}])
def test_the_parts_have_the_loss_and_the_gradient_of_the_whole(
    more: dict[str, Any], make: Callable[..., Unlearner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn alike, then taken whole or in parts; the largest difference is a rounding of float32."""

    def made(apart: bool) -> tuple[int, dict[str, float], list[torch.Tensor]]:
        monkeypatch.setattr(parts, "POSITIONS", 1 if apart else 10**9)
        monkeypatch.setattr(parts, "ROWS", 2)
        monkeypatch.setattr(parts, "FILLED", 1.1)
        unlearner = make(settings(**more))
        noise = torch.Generator().manual_seed(0)
        with torch.no_grad():  # away from the original: there rounding alone says on which side of the hinge a token is
            for value in unlearner.parameters.values():
                value += 0.05 * torch.randn(value.shape, generator=noise)
        with unlearner.lessons.ahead(1) as drawn:
            lesson = next(drawn)
            figures = unlearner._differentiate(None, lesson, drawn)
        gradients = [value.grad.clone() for value in unlearner.parameters.values() if value.grad is not None]
        return len(lesson.retain) * len(lesson.anchored), figures, gradients

    (one, whole, expected), (several, figures, found) = made(False), made(True)
    assert one == 1 and several > 3
    assert figures == {name: pytest.approx(value, rel=1e-4, abs=1e-6) for name, value in whole.items()}
    assert len(expected) == len(found) > 0
    for wanted, given in zip(expected, found, strict=True):
        assert torch.allclose(wanted, given, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()) + 1e-8)
    assert max(float(value.abs().max()) for value in expected) > 1e-3


def test_a_weighted_hinge_looks_at_the_whole_batch(make: Callable[..., Unlearner], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "POSITIONS", 1)
    monkeypatch.setattr(parts, "ROWS", 2)
    monkeypatch.setattr(parts, "FILLED", 1.1)
    unlearner = make(settings(anchor={"weighted": True}))
    with unlearner.lessons.ahead(1) as drawn:
        lesson = next(drawn)
    assert len(lesson.anchored) == 1 < len(lesson.retain)
