"""Attention in 16 bits on a processor: which kernel is taken, that it says the same, and what is made again takes it too."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.backends import cuda as allowed

from deattrib.models import kernels
from deattrib.models.forward import autocast, response_logits
from deattrib.models.kernels import SHORT, SameKernels, short_attention
from deattrib.models.language_model import Codec
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings

CPU = torch.device("cpu")


def single(model: nn.Module, tokens: int) -> bool:
    """Whether nothing but single products would be used."""
    with short_attention(model, tokens):
        return allowed.math_sdp_enabled() and not allowed.flash_sdp_enabled()


def test_single_products_are_for_short_rows_in_16_bits(tiny_model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not single(tiny_model, 8)
    with autocast(CPU, True):
        assert single(tiny_model, SHORT) and not single(tiny_model, SHORT + 1)
        with torch.no_grad():  # the rollout's pass is the update's
            assert single(tiny_model, 8)
    assert single(copy.deepcopy(tiny_model).bfloat16(), 8)
    assert allowed.flash_sdp_enabled()
    monkeypatch.setattr(kernels, "is_small", lambda model: False)
    assert not single(copy.deepcopy(tiny_model).bfloat16(), 8)


def gradients(model: nn.Module, codec: Codec, *, bf16: bool) -> list[Tensor]:
    batch = codec.encode(["Who?", "In which place did it begin?"], ["Nobody knows.", "In Mirren."])
    with autocast(CPU, bf16):
        logits, _ = response_logits(model, batch)
    loss = torch.where(batch.response_mask, logits.float().logsumexp(-1), 0.0).sum()
    return list(torch.autograd.grad(loss, [value for value in model.parameters() if value.requires_grad], allow_unused=True))


def test_gradients_are_those_of_float32_to_bfloat16_s_precision(tiny_model: nn.Module, tiny_codec: Codec) -> None:
    pairs = list(zip(*(gradients(tiny_model, tiny_codec, bf16=bf16) for bf16 in (False, True)), strict=True))
    exact, rounded = (torch.cat([pair[which].flatten() for pair in pairs if pair[0] is not None]) for which in (0, 1))
    assert 0 < float((exact - rounded).norm()) < 0.03 * float(exact.norm())


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_what_is_computed_again_comes_from_the_same_kernel(tiny_model: nn.Module, tiny_codec: Codec, adapter: str) -> None:
    found = []
    for again in (False, True):
        settings = PolicySettings(rank=2, alpha=4.0, adapter=adapter, checkpointing=again)  # type: ignore[arg-type]
        policy = Policy(copy.deepcopy(tiny_model), tiny_codec, settings, seed=0)
        with torch.no_grad():
            for parameter in policy.trainable().values():
                parameter.add_(0.05)
        batch = tiny_codec.encode(["Who?"], ["Nobody knows."])
        with autocast(CPU, True):
            logits = policy(batch).logits
        loss = logits.float().logsumexp(-1).mean()
        values = list(policy.trainable().values())
        # Twice: the second backward pass computes the blocks again, too.
        torch.autograd.grad(loss, values, allow_unused=True, retain_graph=True)
        found.append([value for value in torch.autograd.grad(loss, values, allow_unused=True) if value is not None])
    assert found[0] and all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_kernels_are_remembered_and_put_back(tiny_model: nn.Module) -> None:
    with autocast(CPU, True), short_attention(tiny_model, 8):
        then = SameKernels()
    for _ in range(2):
        with then:
            assert not allowed.flash_sdp_enabled()
        assert allowed.flash_sdp_enabled() and allowed.math_sdp_enabled()
