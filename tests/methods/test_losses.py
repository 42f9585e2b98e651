"""The formulas of the methods: against numbers worked out by hand, limits, and definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deattrib.methods.dpo_idk import dpo_loss
from deattrib.methods.flat import Divergence, conjugate, flat_loss, optimal
from deattrib.methods.npo import npo_loss
from deattrib.methods.rmu import squared_distance
from deattrib.methods.simnpo import simnpo_loss
from deattrib.ppo.advantages import response_means

DIVERGENCES: tuple[Divergence, ...] = ("kl", "pearson", "js", "tv")


def test_means_of_responses_count_valid_tokens_only() -> None:
    values = torch.tensor([[1.0, 3.0, torch.inf], [4.0, torch.nan, torch.nan]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert response_means(values, mask).tolist() == [2.0, 4.0]


def test_npo_by_hand() -> None:
    """pi/pi_ref = 1 and 3 at beta 1: 2 * (log 2 + log 4) / 2 = log 8."""
    assert npo_loss(torch.tensor([0.0, math.log(3)]), 1.0).item() == pytest.approx(math.log(8))


def test_npo_is_gradient_ascent_as_beta_goes_to_0_and_fades_where_the_answer_is_gone() -> None:
    def gradient(beta: float) -> Tensor:
        ratio = torch.tensor([-4.0, 0.0, 4.0], requires_grad=True)
        npo_loss(ratio, beta).backward()
        assert ratio.grad is not None
        return ratio.grad * 3  # of each row's own term

    assert torch.allclose(gradient(1e-4), torch.ones(3), atol=1e-3)  # gradient ascent: 1 for every row
    # The paper's adaptive weight W = 2 pi^beta / (pi^beta + pi_ref^beta), at beta 2.
    assert torch.allclose(gradient(2.0), torch.tensor([2 / (1 + math.exp(8)), 1.0, 2 / (1 + math.exp(-8))]), atol=1e-6)


def test_simnpo_by_hand_with_its_margin() -> None:
    """Mean log-probability -log 3 at beta 1: 2 log(1 + 1/3); a margin of log 3 makes it 2 log 2."""
    mean = torch.tensor([-math.log(3)])
    assert simnpo_loss(mean, 1.0, 0.0).item() == pytest.approx(2 * math.log(4 / 3))
    assert simnpo_loss(mean, 1.0, math.log(3)).item() == pytest.approx(2 * math.log(2))


def test_dpo_is_minus_the_log_probability_that_bradley_and_terry_prefer_the_refusal() -> None:
    chosen, rejected, beta = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0]), 0.4
    preferred = (beta * chosen).exp() / ((beta * chosen).exp() + (beta * rejected).exp())
    assert dpo_loss(chosen, rejected, beta).item() == pytest.approx(-preferred.log().mean().item())


def generator(v: Tensor, divergence: Divergence) -> Tensor:
    """f of the divergence (f-GAN, table 6)."""
    if divergence == "js":
        return v * v.log() - (v + 1) * ((1 + v) / 2).log()
    return {"kl": v * v.log(), "pearson": (v - 1) ** 2, "tv": (v - 1).abs() / 2}[divergence]


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_conjugate_is_the_supremum_it_is_defined_by(divergence: Divergence) -> None:
    """f*(u) = sup_v (u v - f(v)) over a fine grid, for u that g* can give."""
    grid = torch.linspace(1e-6, 12, 1_200_001, dtype=torch.float64)
    for value in (0.05, 0.4, 0.95):
        u = optimal(torch.tensor(value, dtype=torch.float64), divergence)
        assert conjugate(u, divergence).item() == pytest.approx((u * grid - generator(grid, divergence)).max().item(), abs=1e-6)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_flat_raises_the_template_and_lowers_the_answer(divergence: Divergence) -> None:
    template, forget = (torch.tensor([0.3, 0.6], requires_grad=True) for _ in range(2))
    flat_loss(template, forget, divergence).backward()
    assert template.grad is not None and forget.grad is not None
    assert (template.grad < 0).all() and (forget.grad > 0).all()


def test_flat_by_hand() -> None:
    """KL: exp(P_f - 1) - P_e."""
    assert flat_loss(torch.tensor([0.25]), torch.tensor([0.5]), "kl").item() == pytest.approx(math.exp(-0.5) - 0.25)


def test_the_distance_is_over_valid_tokens() -> None:
    states = torch.tensor([[[3.0, 4.0], [1.0, 0.0]], [[0.0, 2.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    assert squared_distance(states, torch.zeros(2), mask).item() == pytest.approx((25 + 1 + 4) / 3)
