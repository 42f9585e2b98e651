"""What is made piece by piece equals torch's own in one piece, gradients included, and narrow numbers never come that way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from deattrib.models import wide
from deattrib.models.forward import gather_log_probs
from deattrib.ppo.losses import token_kl

WIDTH = 50


def logits(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    values = 3 * torch.randn(4, 7, WIDTH, generator=torch.Generator().manual_seed(seed))
    return values.to(dtype).requires_grad_(True)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows at a time; 28 do not come out even."""
    monkeypatch.setattr(wide, "AT_ONCE", 4 * WIDTH * 3)


def gradients(function: Callable[[Tensor], Tensor], given: Tensor) -> tuple[Tensor, Tensor]:
    value = function(given)
    weights = torch.linspace(-1, 2, value.numel()).view(value.shape)
    (gradient,) = torch.autograd.grad((value * weights).sum(), given)
    return value.detach(), gradient


def test_pieces_cover_everything_once(narrow: None) -> None:
    found = [row for piece in wide.pieces(28, WIDTH) for row in range(28)[piece]]
    assert found == list(range(28)) and len(list(wide.pieces(28, WIDTH))) == 10
    assert len(list(wide.pieces(3, 10**6))) == 3  # a row longer than what may be made at once is one piece


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_and_their_gradient(narrow: None, temperature: float) -> None:
    given, ids = logits(0, torch.float32), torch.arange(28).view(4, 7)
    plain = gradients(lambda x: torch.log_softmax(x / temperature, -1).gather(-1, ids[..., None]).squeeze(-1), given)
    ours = gradients(lambda x: gather_log_probs(x, ids, temperature=temperature), given)
    assert wide.is_wide(given)
    for a, b in zip(ours, plain, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_divergence_and_its_gradient(narrow: None, temperature: float) -> None:
    given, teacher = logits(1, torch.float32), logits(2, torch.float32).detach()
    p = torch.distributions.Categorical(logits=teacher / temperature)
    plain = gradients(
        lambda x: torch.distributions.kl_divergence(p, torch.distributions.Categorical(logits=x / temperature)), given
    )
    ours = gradients(lambda x: token_kl(teacher, x, temperature=temperature), given)
    for a, b in zip(ours, plain, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_entropy(narrow: None) -> None:
    given = logits(3, torch.float32)
    assert torch.allclose(wide.entropy_of(given), torch.distributions.Categorical(logits=given).entropy(), atol=1e-5)
    assert not wide.entropy_of(given).requires_grad


def test_gradients_keep_the_models_dtype(narrow: None) -> None:
    given = logits(4, torch.bfloat16)
    value, gradient = gradients(lambda x: gather_log_probs(x, torch.zeros(4, 7, dtype=torch.int64)), given)
    assert value.dtype == torch.float32 and gradient.dtype == torch.bfloat16


@pytest.mark.parametrize("rows", [(16, 48), (32, 32)])
def test_the_demos_sizes_are_taken_at_once_to_the_same_bits(rows: tuple[int, int]) -> None:
    given = torch.randn(*rows, 2048, generator=torch.Generator().manual_seed(0))
    ids = torch.zeros(rows, dtype=torch.int64)
    assert not wide.is_wide(given)
    flat = torch.nn.functional.cross_entropy(given.flatten(0, 1), ids.flatten(), reduction="none")
    assert torch.equal(gather_log_probs(given, ids), -flat.view(rows))
    spread = torch.log_softmax(given, -1)
    assert torch.equal(wide.entropy_of(given), -(spread.exp() * spread).sum(-1))


def test_nothing_of_the_vocabularys_width_is_kept_in_float32(narrow: None) -> None:
    kept: list[Tensor] = []
    given = logits(5, torch.bfloat16)
    teacher = logits(6, torch.bfloat16).detach()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):  # type: ignore[func-returns-value]
        (gather_log_probs(given, torch.zeros(4, 7, dtype=torch.int64)) + token_kl(teacher, given)).sum()
    assert kept and not [x for x in kept if x.dtype == torch.float32 and x.numel() >= 28 * WIDTH]
