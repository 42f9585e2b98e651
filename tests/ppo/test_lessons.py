"""Lessons prepared in a thread are the lessons prepared in turn, and twins share weights but nothing else."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib.models.twin import twin
from deattrib.ppo.lessons import Lessons
from deattrib.ppo.settings import PPOSettings
from deattrib.ppo.unlearner import Unlearner

Make = Callable[..., Unlearner]


def settings(**more: Any) -> PPOSettings:
    return PPOSettings(**{"steps": 3, "batch_size": 5, "minibatch_size": 3, "epochs": 2, "max_new_tokens": 8, **more})


def history(unlearner: Unlearner) -> list[dict[str, float]]:
    return [dict(step.figures) for step in unlearner]


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


KINDS: dict[str, dict[str, Any]] = {
    "default": {},
    "cut short": {"target_kl": 1e-9},
    "more updates than are prepared": {"epochs": 4},
    "no anchored term": {"anchor": {"hinge": 0.0, "kl": 0.0}},
    "the anchored term alone": {"policy_weight": 0.0},
    "no retain term": {"retain": {"weight": 0.0}},
}


POLICIES = [("lora", "shared"), ("lora", "separate"), ("full", "shared")]
QUICK = [(*POLICIES[0], kind) for kind in ("default", "cut short", "more updates than are prepared", "the anchored term alone")]
QUICK += [(*policy, "default") for policy in POLICIES[1:]]


@pytest.mark.parametrize(
    ("adapter", "critic", "kind"),
    [
        pytest.param(*policy, kind, marks=[pytest.mark.slow] * ((*policy, kind) not in QUICK))
        for kind in KINDS
        for policy in POLICIES
    ],
)
def test_a_thread_changes_no_number(make: Make, adapter: str, critic: str, kind: str) -> None:
    """Also where a step stops after its first updates, and what was drawn ahead is put back."""
    chosen = settings(**{"target_kl": None, "learning_rate": 1e-2, "warmup": 0, **KINDS[kind]})
    target_kl = chosen.target_kl
    in_turn = make(chosen, adapter=adapter, critic=critic)
    ahead = make(chosen, adapter=adapter, critic=critic, ahead=True)
    assert ahead.beside is not ahead.policy and in_turn.beside is in_turn.policy
    left, right = history(in_turn), history(ahead)
    assert left == right
    assert same(in_turn.state_dict(), ahead.state_dict())
    assert any("cut_short" in figures for figures in left) == (target_kl is not None)


def test_what_goes_wrong_in_the_thread_is_told(
    make: Make, tiny_corpus: Corpus, tiny_llama: nn.Module, tiny_codec: Codec
) -> None:
    policy = Policy(copy.deepcopy(tiny_llama), tiny_codec, PolicySettings(rank=4, alpha=8.0), seed=0)
    nameless = dataclasses.replace(
        tiny_corpus, identities={k: v for k, v in tiny_corpus.identities.items() if k in tiny_corpus.retain_owners}
    )
    unlearner = Unlearner(
        policy, nameless, make(settings()).source, settings(policy_weight=0.0, anchor={"towards": "counterfactual"}),
        seed=0, ahead=True,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="no name to replace"):
        next(unlearner)


def test_a_twin_shares_the_weights_and_nothing_else(tiny_model: nn.Module, tiny_codec: Codec) -> None:
    other = twin(tiny_model)
    mine, theirs = dict(tiny_model.named_parameters()), dict(other.named_parameters())
    assert mine.keys() == theirs.keys() and all(mine[name] is theirs[name] for name in mine)
    assert not set(map(id, tiny_model.modules())) & set(map(id, other.modules()))
    batch = tiny_codec.encode(["Who?"], ["Nobody at all."])
    seen: list[str] = []
    handles = [module.register_forward_hook(lambda *_: seen.append("hook")) for module in tiny_model.modules()]
    logits = LanguageModel(other, tiny_codec).apart().logits(batch)
    assert not seen
    assert torch.equal(logits, LanguageModel(tiny_model, tiny_codec).logits(batch)) and seen
    for handle in handles:
        handle.remove()


def test_lessons_in_turn_are_drawn_when_wanted(make: Make, tiny_corpus: Corpus) -> None:
    lessons: Lessons = make(settings()).lessons
    with lessons.ahead(4) as drawn:
        next(drawn)
        after_one = lessons._position()
    assert same(lessons._position(), after_one)
    apart: Lessons = make(settings(), ahead=True).lessons
    with apart.ahead(4) as drawn:
        next(drawn)
    assert same(apart._position(), after_one)


def test_a_twin_of_views_shares_memory_and_ties_but_no_flag(tiny_model: nn.Module) -> None:
    other = twin(tiny_model, views=True)
    theirs = dict(other.named_parameters())
    flags = {name: value.requires_grad for name, value in tiny_model.named_parameters()}
    assert {name: value.data_ptr() for name, value in tiny_model.named_parameters()} == {
        name: value.data_ptr() for name, value in theirs.items()
    }
    assert list(theirs) == [name for name, _ in tiny_model.named_parameters()]  # a tied tensor is still listed once
    assert not any(value.requires_grad for value in theirs.values())
    next(iter(theirs.values())).requires_grad_(True)
    assert flags == {name: value.requires_grad for name, value in tiny_model.named_parameters()}
