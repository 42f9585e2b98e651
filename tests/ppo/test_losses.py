"""Losses worked out by hand, and where their gradients are zero."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deattrib.ppo.losses import anchored_hinge, distillation_loss, masked_mean, policy_loss, token_kl, value_loss


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_policy_loss_by_hand() -> None:
    ratio = torch.tensor([[1.1, 1.5, 0.5, 9.0]])
    advantages = torch.tensor([[2.0, 1.0, -1.0, 5.0]])
    mask = torch.tensor([[True, True, True, False]])
    # min(2.2, 2.2), min(1.5, 1.2), min(-.5, -.8)
    loss = policy_loss(ratio.log(), torch.zeros(1, 4), advantages, mask, clip=0.2)
    assert float(loss) == pytest.approx(-(2.2 + 1.2 - 0.8) / 3)


def test_at_ratio_1_it_is_the_mean_advantage_and_its_gradient_the_policy_gradient() -> None:
    mask = torch.arange(4) < torch.tensor([4, 2])[:, None]
    advantages = normal(2, 4, seed=1) * mask
    log_probs = normal(2, 4).requires_grad_()
    loss = policy_loss(log_probs, log_probs.detach(), advantages, mask, clip=0.2)
    assert float(loss.detach()) == pytest.approx(-float(advantages[mask].mean()))
    loss.backward()  # type: ignore[no-untyped-call]
    assert log_probs.grad is not None
    assert torch.allclose(log_probs.grad, -advantages / 6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"), [(1.3, 1.0, False), (1.3, -1.0, True), (0.7, 1.0, True), (0.7, -1.0, False)]
)
def test_clipping_stops_only_what_went_too_far(ratio: float, advantage: float, moves: bool) -> None:
    log_probs = torch.tensor([[math.log(ratio)]], requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)
    policy_loss(log_probs, torch.zeros(1, 1), torch.tensor([[advantage]]), mask, clip=0.2).backward()  # type: ignore[no-untyped-call]
    assert log_probs.grad is not None
    assert bool((log_probs.grad != 0).all()) == moves


def test_padding_neither_counts_nor_overflows() -> None:
    mask = torch.tensor([[True, False]])
    log_probs = torch.tensor([[0.0, 1e4]], requires_grad=True)
    loss = policy_loss(log_probs, torch.zeros(1, 2), torch.tensor([[2.0, 3.0]]), mask, clip=0.2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(-2.0)
    assert log_probs.grad is not None and log_probs.grad[0, 1] == 0 and bool(torch.isfinite(log_probs.grad).all())


def test_value_loss_by_hand() -> None:
    values, old, returns = torch.tensor([[1.0, 0.1]]), torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert float(value_loss(values, old, returns, mask, clip=None)) == pytest.approx(0.5 * (0 + 0.81) / 2)
    # clipped: .2 and .1; the larger error of clipped and unclipped counts
    assert float(value_loss(values, old, returns, mask, clip=0.2)) == pytest.approx(0.5 * (0.64 + 0.81) / 2)


def test_distillation_is_torchs_kl() -> None:
    teacher, student = normal(2, 3, 7), normal(2, 3, 7, seed=1)
    mask = torch.ones(2, 3, dtype=torch.bool)
    q, p = (torch.log_softmax(logits, -1).view(6, 7) for logits in (student, teacher))
    theirs = torch.nn.functional.kl_div(q, p, log_target=True, reduction="batchmean")
    assert float(distillation_loss(student, teacher, mask)) == pytest.approx(float(theirs), rel=1e-5)
    assert float(distillation_loss(teacher, teacher, mask)) == 0


def test_token_kl_by_hand_and_its_direction() -> None:
    p, q = torch.tensor([[[0.5, 0.5]]]).log(), torch.tensor([[[0.9, 0.1]]]).log()
    assert float(token_kl(p, q)) == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1), rel=1e-5)
    assert float(token_kl(q, p)) == pytest.approx(0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5), rel=1e-5)


def test_kl_has_no_gradient_where_the_distributions_match() -> None:
    logits = normal(1, 3, 9)
    student = (logits + 4.0).requires_grad_()  # the same distribution
    distillation_loss(student, logits, torch.ones(1, 3, dtype=torch.bool)).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None and float(student.grad.abs().max()) < 1e-7


def test_hinge_by_hand() -> None:
    log_probs = torch.tensor([[-1.0, -3.0, -2.0, -0.5]])
    level = torch.tensor([[-2.5, -2.0, -2.0, -9.0]])
    mask = torch.tensor([[True, True, True, False]])
    assert float(anchored_hinge(log_probs, level, mask)) == pytest.approx(1.5 / 3)
    assert float(anchored_hinge(log_probs, level, mask, torch.tensor([[2.0, 9.0, 9.0, 9.0]]))) == pytest.approx(3.0 / 3)


def test_hinge_has_exactly_no_gradient_at_or_below_its_level() -> None:
    log_probs = torch.tensor([[-1.0, -3.0, -2.0, -0.5]], requires_grad=True)
    level = torch.tensor([[-2.5, -2.0, -2.0, -9.0]], requires_grad=True)
    mask = torch.tensor([[True, True, True, False]])
    anchored_hinge(log_probs, level, mask).backward()  # type: ignore[no-untyped-call]
    assert log_probs.grad is not None
    assert log_probs.grad[0].tolist() == [pytest.approx(1 / 3), 0.0, 0.0, 0.0]
    assert level.grad is None  # the level itself is never trained


def test_a_mean_of_nothing_is_0() -> None:
    assert float(masked_mean(normal(2, 2), torch.zeros(2, 2, dtype=torch.bool))) == 0
