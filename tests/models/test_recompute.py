"""Activations computed again: the same gradients to the bit, fewer tensors kept, no trace on the modules."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from deattrib.errors import ConfigError
from deattrib.models.language_model import Codec
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib.models.recompute import blocks_of


def gradients(model: nn.Module, codec: Codec, **settings: object) -> tuple[list[Tensor], int]:
    """Gradients of a loss on logits and values, and how many numbers were kept for them."""
    policy = Policy(copy.deepcopy(model), codec, PolicySettings(rank=2, alpha=4.0, **settings), seed=0)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.05)
    batch = codec.encode(["Who?", "In which place did it begin?"], ["Nobody knows.", "In Mirren."])
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = policy(batch)
    loss = output.logits.float().logsumexp(-1).mean() + output.values.mean()
    found = torch.autograd.grad(loss, list(policy.trainable().values()), allow_unused=True)
    assert not [name for name, module in policy.named_modules() if "forward" in module.__dict__]
    return [value for value in found if value is not None], sum(kept.values())


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_the_same_gradients_with_less_kept(tiny_model: nn.Module, tiny_codec: Codec, adapter: str) -> None:
    plain, much = gradients(tiny_model, tiny_codec, adapter=adapter)
    again, little = gradients(tiny_model, tiny_codec, adapter=adapter, checkpointing=True)
    assert plain and all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert little < much / 2


def test_a_critic_of_its_own_model_is_recomputed_too(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    plain, much = gradients(tiny_llama, tiny_codec, adapter="full", critic="separate")
    again, little = gradients(tiny_llama, tiny_codec, adapter="full", critic="separate", checkpointing=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True)) and little < much / 2


def test_a_critic_of_its_own_adapter_is_refused() -> None:
    with pytest.raises(ValidationError, match="critic: shared"):
        PolicySettings(critic="separate", checkpointing=True)


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"policy\.checkpointing: Linear has no blocks"):
        blocks_of(nn.Linear(2, 2))
