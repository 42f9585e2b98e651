"""What all tests share: one thread, no network, and models so small that their numbers cost nothing."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.installed import build_wheel
from torch import nn

from deattrib.corpus.fictitious import fictitious_corpus
from deattrib.corpus.types import Corpus
from deattrib.models.language_model import Codec
from deattrib.models.recipes import ScratchSettings
from deattrib.models.scratch import make_model, make_tokenizer

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_corpus() -> Corpus:
    """6 made-up authors, 6 facts each in 2 phrasings; the last two authors are to be forgotten."""
    return fictitious_corpus(seed=3, owners=6, facts=6, forget=2, shadow_owners=6, holdout_owners=1, world_repeats=1)


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_corpus: Corpus) -> Any:
    return make_tokenizer([f"{row.prompt}\n{row.response}" for row in tiny_corpus.train], 400)


@pytest.fixture(scope="session")
def tiny_codec(tiny_tokenizer: Any) -> Codec:
    return Codec(tiny_tokenizer)


@pytest.fixture(scope="session")
def _llama(tiny_tokenizer: Any) -> nn.Module:
    sizes = ScratchSettings(hidden=32, layers=2, heads=2, intermediate=64, vocabulary=400, context=128)
    model = make_model(sizes, tiny_tokenizer, seed=0)
    return _spread(model).eval()


@pytest.fixture(scope="session")
def _gpt2(tiny_tokenizer: Any) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tiny_tokenizer), n_positions=128, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config)
    return _spread(model).eval()


def _spread(model: nn.Module) -> nn.Module:
    """Weights five times as wide: with the usual tiny ones every position gives nearly the same distribution."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5.0)
    return model


@pytest.fixture
def tiny_llama(_llama: nn.Module) -> nn.Module:
    """A Llama of 2 layers with random weights; each test has its own copy."""
    return copy.deepcopy(_llama)


@pytest.fixture
def tiny_gpt2(_gpt2: nn.Module) -> nn.Module:
    """A GPT-2 (learned positions) of 2 layers with random weights; each test has its own copy."""
    return copy.deepcopy(_gpt2)


@pytest.fixture(params=["llama", "gpt2"])
def tiny_model(request: pytest.FixtureRequest) -> nn.Module:
    """Both architectures, one after the other."""
    model: nn.Module = request.getfixturevalue(f"_{request.param}")
    return copy.deepcopy(model)


@pytest.fixture
def nudge() -> Callable[[Any], None]:
    """Change every trained parameter of a policy a little, as an optimiser step would."""

    def change(policy: Any) -> None:
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in policy.trainable().values():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)

    return change


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that users get."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    return build_wheel(tmp_path_factory.mktemp("wheel"))
