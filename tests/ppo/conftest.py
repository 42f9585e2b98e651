"""An unlearner on a fresh copy of the smallest model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.ppo.toy import EvenTokens
from torch import nn

from deattrib.corpus.types import Corpus
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib.ppo.settings import PPOSettings
from deattrib.ppo.unlearner import Unlearner

Make = Callable[..., Unlearner]


@pytest.fixture
def make(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> Make:
    """make(settings, source, seed=0, adapter="lora", critic="shared") -> an unlearner on a fresh copy of the model."""
    base = copy.deepcopy(tiny_llama)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.mul_(0.9)

    def build(
        settings: PPOSettings, source: Any = None, *, seed: int = 0, adapter: str = "lora", critic: str = "shared", **more: Any
    ) -> Unlearner:
        kind = PolicySettings(adapter=adapter, critic=critic, rank=4, alpha=8.0)
        policy = Policy(copy.deepcopy(tiny_llama), tiny_codec, kind, seed=seed)
        return Unlearner(
            policy, tiny_corpus, source or EvenTokens(), settings, seed=seed,
            base=LanguageModel(copy.deepcopy(base), tiny_codec, name="base"), **more,
        )  # fmt: skip

    return build
