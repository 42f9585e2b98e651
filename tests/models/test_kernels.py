"""Attention in 16 bits on a processor: which way is taken, that it says the same, and what is made again takes it too."""

from __future__ import annotations

import copy
import threading
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deattrib.models import kernels
from deattrib.models.forward import autocast, response_logits
from deattrib.models.kernels import SHORT, SingleProducts, attention, same_attention, short_attention
from deattrib.models.language_model import Codec
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings

CPU = torch.device("cpu")


def single(model: nn.Module, tokens: int) -> bool:
    return isinstance(short_attention(model, tokens), SingleProducts)


def test_single_products_are_for_short_rows_in_16_bits(tiny_model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not single(tiny_model, 8)
    with autocast(CPU, True):
        assert single(tiny_model, SHORT) and not single(tiny_model, SHORT + 1)
        with torch.no_grad():  # the rollout's pass is the update's
            assert single(tiny_model, 8)
    assert single(copy.deepcopy(tiny_model).bfloat16(), 8)
    monkeypatch.setattr(kernels, "is_small", lambda model: False)
    assert not single(copy.deepcopy(tiny_model).bfloat16(), 8)


@pytest.mark.parametrize("given", ["nothing", "causal", "mask", "bias", "groups", "scale"])
def test_it_is_torch_s_attention(given: str) -> None:
    make = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 4, 5, 8, generator=make, dtype=torch.float64, requires_grad=True) for _ in range(3))
    named: dict[str, object] = {}
    if given == "causal":
        named["is_causal"] = True
    elif given == "mask":
        named["attn_mask"] = torch.rand(2, 1, 5, 5, generator=make) < 0.7
        named["attn_mask"][..., 0] = True  # type: ignore[index]
    elif given == "bias":
        named["attn_mask"] = torch.randn(2, 1, 5, 5, generator=make, dtype=torch.float64)
    elif given == "groups":
        key, value = (part[:, :2].detach().requires_grad_(True) for part in (key, value))
        named["enable_gqa"] = True
    elif given == "scale":
        named["scale"] = 0.3
    weights = torch.randn(2, 4, 5, 8, generator=make, dtype=torch.float64)
    found = []
    for context in (nullcontext(), SingleProducts()):
        with context:
            out = functional.scaled_dot_product_attention(query, key, value, dropout_p=0.0, **named)  # type: ignore[arg-type]
        found.append([out, *torch.autograd.grad((out * weights).sum(), (query, key, value))])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))
    assert not torch.equal(found[0][0], found[1][0])  # the softmax is in float32: it was ours


def test_a_row_that_sees_nothing_is_finite_and_dropout_is_torch_s() -> None:
    one = torch.ones(1, 1, 2, 4)
    assert attention(one, one, one, torch.zeros(1, 1, 2, 2, dtype=torch.bool)).isfinite().all()
    with SingleProducts():
        assert functional.scaled_dot_product_attention(one, one, one, dropout_p=0.9).shape == one.shape


def test_it_is_this_thread_s_alone(tiny_model: nn.Module) -> None:
    """Torch's own switches are the process': two threads that pass each other would leave them as the first found them."""
    seen: list[bool] = []

    def other() -> None:
        seen.append(isinstance(same_attention(), SingleProducts))

    with SingleProducts():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert isinstance(same_attention(), SingleProducts)
        with SingleProducts():
            pass
        assert isinstance(same_attention(), SingleProducts)
    assert seen == [False] and not isinstance(same_attention(), SingleProducts)
    assert torch.backends.cuda.flash_sdp_enabled()


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
