"""Fine-tuning lowers the loss on answers, and is decided by its seed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from deattrib.corpus.types import Corpus
from deattrib.models.language_model import Codec, fingerprint
from deattrib.models.recipes import TrainingSettings
from deattrib.models.training import answer_loss, fine_tune

SETTINGS = TrainingSettings(steps=8, batch_size=6, learning_rate=5e-3)


def loss_of(model: nn.Module, codec: Codec, corpus: Corpus) -> float:
    with torch.no_grad():
        return float(answer_loss(model, codec.encode([r.prompt for r in corpus.train], [r.response for r in corpus.train])))


def test_the_loss_is_the_mean_over_answer_tokens(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    prompts, answers = ["Who?", "In which place?"], ["Nobody.", "In Mirren, they say."]
    total, count = 0.0, 0
    for prompt, answer in zip(prompts, answers, strict=True):
        before, after = tiny_codec.prompt(prompt), tiny_codec.response(answer)
        labels = torch.tensor([[-100] * len(before) + after])
        mean = tiny_llama(input_ids=torch.tensor([before + after]), labels=labels).loss
        total, count = total + float(mean.detach()) * len(after), count + len(after)
    assert float(answer_loss(tiny_llama, tiny_codec.encode(prompts, answers))) == pytest.approx(total / count, rel=1e-5)


def test_it_learns_and_the_seed_decides(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> None:
    before = loss_of(tiny_llama, tiny_codec, tiny_corpus)
    state = torch.get_rng_state()
    models = [fine_tune(copy.deepcopy(tiny_llama), tiny_codec, tiny_corpus.train, SETTINGS, seed=seed) for seed in (1, 1, 2)]
    torch.set_rng_state(state)
    assert fingerprint(models[0]) == fingerprint(models[1])
    assert fingerprint(models[0]) != fingerprint(models[2])
    assert loss_of(models[0], tiny_codec, tiny_corpus) < before - 0.3
    assert not models[0].training
    copy.deepcopy(models[0])  # nothing of the trainer is left in it


def test_lora_is_merged_afterwards(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> None:
    names = set(tiny_llama.state_dict())
    before = loss_of(tiny_llama, tiny_codec, tiny_corpus)
    state = torch.get_rng_state()
    settings = SETTINGS.model_copy(update={"lora_rank": 4})
    model = fine_tune(tiny_llama, tiny_codec, tiny_corpus.train, settings, seed=1)
    torch.set_rng_state(state)
    assert set(model.state_dict()) == names
    assert loss_of(model, tiny_codec, tiny_corpus) < before
