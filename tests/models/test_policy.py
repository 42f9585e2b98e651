"""The policy starts as the original model, trains beside it, and never changes it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import nn

from deattrib.models.batch import TokenBatch
from deattrib.models.forward import response_logits
from deattrib.models.language_model import Codec, LanguageModel, fingerprint
from deattrib.models.policy import ACTIVE, CRITIC, OLD, Policy
from deattrib.models.recipes import PolicySettings

Nudge = Callable[[Any], None]
KINDS = [("lora", "shared"), ("lora", "separate"), ("full", "shared"), ("full", "separate")]


@pytest.fixture
def batch(tiny_codec: Codec) -> TokenBatch:
    return tiny_codec.encode(["Who?", "In which place did it begin?"], ["Nobody knows.", "In Mirren."])


def make(model: nn.Module, codec: Codec, adapter: str = "lora", critic: str = "shared", seed: int = 0) -> Policy:
    return Policy(model, codec, PolicySettings(adapter=adapter, critic=critic, rank=4, alpha=8.0), seed=seed)


def optimise(policy: Policy, batch: TokenBatch, *, steps: int = 1) -> None:
    """Optimiser steps on some loss of logits and values, with looks at the other models in between."""
    optimiser = torch.optim.AdamW(policy.trainable().values(), lr=1e-2)
    for _ in range(steps):
        output = policy(batch)
        policy.original_logits(batch)
        loss = torch.log_softmax(output.logits.float(), -1)[..., 7].sum() + ((output.values - 1) ** 2).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


@pytest.mark.parametrize(("adapter", "critic"), KINDS)
def test_it_starts_as_the_original_model(
    tiny_model: nn.Module, tiny_codec: Codec, batch: TokenBatch, adapter: str, critic: str
) -> None:
    before = LanguageModel(copy.deepcopy(tiny_model), tiny_codec).logits(batch)
    policy = make(tiny_model, tiny_codec, adapter, critic)
    output = policy(batch)
    assert torch.equal(output.logits, before)
    assert torch.equal(policy.original_logits(batch), before)
    assert (output.values == 0).all() and output.values.shape == batch.response_ids.shape


@pytest.mark.parametrize(("adapter", "critic"), KINDS)
def test_training_leaves_the_original_untouched(
    tiny_llama: nn.Module, tiny_codec: Codec, batch: TokenBatch, adapter: str, critic: str
) -> None:
    weights = fingerprint(tiny_llama)
    policy = make(tiny_llama, tiny_codec, adapter, critic)
    before = policy.original_logits(batch)
    optimise(policy, batch, steps=2)
    assert not torch.equal(policy(batch).logits, before)
    assert torch.equal(policy.original_logits(batch), before)
    assert torch.equal(policy.original().logits(batch), before)
    clone = policy.original().clone()
    assert fingerprint(clone) == weights
    assert not any("lora" in name for name in clone.state_dict())
    assert not any(parameter.requires_grad for parameter in clone.parameters())


@pytest.mark.parametrize(("adapter", "critic"), KINDS)
def test_what_is_trained_stays_trained(
    tiny_llama: nn.Module, tiny_codec: Codec, batch: TokenBatch, adapter: str, critic: str
) -> None:
    """peft freezes and unfreezes adapters when it switches them; whoever looks at another model must not notice."""
    policy = make(tiny_llama, tiny_codec, adapter, critic)
    names = set(policy.trainable())
    assert any(name.startswith("value_head") for name in names)
    assert any(CRITIC in name for name in names) == (critic == "separate")
    if adapter == "lora":
        assert all("lora" in name or name.startswith("value_head") for name in names)
    looks: list[Callable[[], object]] = [
        lambda: policy.original_logits(batch),
        policy.remember,
        policy.remember,
        lambda: policy.old_logits(batch),
        lambda: policy.sample(["Who?"], max_new_tokens=2, temperature=1.0, generator=torch.Generator(), old=True),
        lambda: policy.original().generate(["Who?"], max_new_tokens=2),
        lambda: policy.original().clone(),
        lambda: policy.language_model(),
        lambda: policy(batch),
    ]
    for look in looks:
        look()
        assert set(policy.trainable()) == names


def test_flags_come_back_after_an_error_too(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    policy = make(tiny_llama, tiny_codec, critic="separate")
    policy.remember()
    names = set(policy.trainable())
    with pytest.raises(RuntimeError, match="inside"), policy._adapter(OLD):
        assert set(policy.trainable()) == names
        raise RuntimeError("inside")
    assert set(policy.trainable()) == names
    assert policy.backbone.active_adapter == ACTIVE


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_separate_critic_learns_and_leaves_the_policy_alone(
    tiny_llama: nn.Module, tiny_codec: Codec, batch: TokenBatch, adapter: str
) -> None:
    policy = make(tiny_llama, tiny_codec, adapter, "separate")
    before = policy(batch).logits.detach()
    critic = {name: value.detach().clone() for name, value in policy.trainable().items() if CRITIC in name}
    optimiser = torch.optim.AdamW(policy.trainable().values(), lr=1e-2, weight_decay=0.0)
    for _ in range(3):
        loss = ((policy(batch).values - 1) ** 2).mean()
        policy.original_logits(batch)  # as the distillation does between forward and backward
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.equal(policy(batch).logits, before)
    now = policy.trainable()
    assert any(not torch.equal(now[name], value) for name, value in critic.items())
    assert float(policy(batch).values.detach().mean()) > 0.05


@pytest.mark.parametrize(("adapter", "critic"), KINDS)
def test_the_old_policy_is_remembered(
    tiny_llama: nn.Module, tiny_codec: Codec, batch: TokenBatch, nudge: Nudge, adapter: str, critic: str
) -> None:
    policy = make(tiny_llama, tiny_codec, adapter, critic)
    with pytest.raises(RuntimeError, match="remember"):
        policy.old_logits(batch)
    nudge(policy)
    policy.remember()
    before = policy(batch).logits.detach().clone()
    nudge(policy)
    after = policy(batch).logits
    assert torch.equal(policy.old_logits(batch), before)
    assert not torch.equal(after, before)
    assert torch.equal(policy(batch).logits, after)  # looking back changes nothing
    policy.remember()
    assert torch.equal(policy.old_logits(batch), after)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_old_samples_come_from_the_old_policy(tiny_llama: nn.Module, tiny_codec: Codec, nudge: Nudge, adapter: str) -> None:
    policy = make(tiny_llama, tiny_codec, adapter)
    policy.remember()

    def draw(old: bool) -> list[list[int]]:
        generator = torch.Generator().manual_seed(0)
        return policy.sample(["Who?"] * 3, max_new_tokens=12, temperature=1.0, generator=generator, old=old).response_lists()

    before = draw(False)
    nudge(policy)
    nudge(policy)
    assert draw(True) == before
    assert draw(False) != before


@pytest.mark.parametrize(("adapter", "critic"), KINDS)
@pytest.mark.parametrize("old", [False, True])
def test_state_comes_back_to_the_last_bit(
    tiny_llama: nn.Module, tiny_codec: Codec, batch: TokenBatch, nudge: Nudge, adapter: str, critic: str, old: bool
) -> None:
    first = make(copy.deepcopy(tiny_llama), tiny_codec, adapter, critic)
    nudge(first)
    if old:
        first.remember()
    nudge(first)
    state = first.state()
    second = make(tiny_llama, tiny_codec, adapter, critic, seed=9)
    second.load_state(state)
    assert set(second.state()) == set(state)
    assert all(torch.equal(value, second.state()[name]) for name, value in state.items())
    mine, theirs = first(batch), second(batch)
    assert torch.equal(mine.logits, theirs.logits) and torch.equal(mine.values, theirs.values)
    if old:
        assert torch.equal(first.old_logits(batch), second.old_logits(batch))
    nudge(first)
    assert torch.equal(theirs.logits, second(batch).logits)  # the state was a copy


def test_a_state_with_a_tensor_missing_is_refused(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    policy = make(tiny_llama, tiny_codec)
    state = policy.state()
    del state["value_head.weight"]
    with pytest.raises(KeyError, match=r"value_head\.weight"):
        policy.load_state(state)


@pytest.mark.parametrize(("adapter", "critic"), KINDS)
def test_the_merged_model_is_the_policy(
    tiny_model: nn.Module, tiny_codec: Codec, batch: TokenBatch, nudge: Nudge, adapter: str, critic: str
) -> None:
    policy = make(tiny_model, tiny_codec, adapter, critic)
    policy.remember()
    nudge(policy)
    merged = policy.language_model()
    assert torch.allclose(merged.logits(batch), policy(batch).logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(merged.logits(batch), policy.original_logits(batch), atol=1e-3)
    assert not any("lora" in name for name in merged.model.state_dict())
    nudge(policy)  # a model of its own
    assert not torch.allclose(merged.logits(batch), policy(batch).logits, atol=1e-3)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_making_one_leaves_the_global_random_state(
    tiny_llama: nn.Module, tiny_codec: Codec, adapter: Literal["lora", "full"]
) -> None:
    before = torch.get_rng_state()
    policy = make(tiny_llama, tiny_codec, adapter, "separate")
    policy.remember()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_decides_the_adapter(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    def first(seed: int) -> torch.Tensor:
        values = make(copy.deepcopy(tiny_llama), tiny_codec, seed=seed).trainable()
        return next(value for name, value in values.items() if "lora_A" in name)

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_the_original_stays_the_original_for_an_outer_use(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    policy = Policy(copy.deepcopy(tiny_llama), tiny_codec, PolicySettings(rank=4, alpha=8.0), seed=0)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.1)
    batch = tiny_codec.encode(["Who?"], ["Nobody at all."])
    original = LanguageModel(tiny_llama, tiny_codec).logits(batch)
    with torch.no_grad(), policy.original().active() as model:
        policy.original().token_log_probs(batch)
        assert torch.allclose(response_logits(model, batch)[0], original, atol=1e-5)
    assert not torch.allclose(policy(batch).logits, original, atol=1e-2)
