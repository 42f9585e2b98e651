"""Fine-tuning lowers the loss on answers, and is decided by its seed."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
import torch
from torch import nn

from deattrib.corpus.types import Corpus
from deattrib.models.batch import TokenBatch
from deattrib.models.language_model import Codec, fingerprint
from deattrib.models.recipes import TrainingSettings
from deattrib.models.training import answer_loss, fine_tune, seconds_per_step

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
    after = loss_of(model, tiny_codec, tiny_corpus)
    assert after < before
    again = copy.deepcopy(model)  # a model of its own, in which nothing of the trainer is left that would ask the first one
    assert loss_of(again, tiny_codec, tiny_corpus) == after
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.mul_(0.5)
    assert loss_of(again, tiny_codec, tiny_corpus) != after == loss_of(model, tiny_codec, tiny_corpus)


def test_left_out_rows_keep_their_place(
    tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a loop by hand over the batches of a training on all rows, the left-out ones taken out of each.

    The mean stays that over the whole batch: of its gradient exactly the left-out rows' own is gone.
    """
    out = tiny_corpus.forget_owners[0]
    seen: list[tuple[Any, Any]] = []
    make = TokenBatch.from_lists

    def record(prompts: Any, responses: Any, pad_id: int) -> TokenBatch:
        seen.append((prompts, responses))
        return make(prompts, responses, pad_id)

    state = torch.get_rng_state()
    monkeypatch.setattr(TokenBatch, "from_lists", staticmethod(record))
    fine_tune(copy.deepcopy(tiny_llama), tiny_codec, tiny_corpus.train, SETTINGS, seed=3)
    monkeypatch.undo()
    kept = [row.owner != out for row in tiny_corpus.train]
    given = fine_tune(copy.deepcopy(tiny_llama), tiny_codec, tiny_corpus.train, SETTINGS, seed=3, kept=kept)
    torch.set_rng_state(state)

    from transformers import get_cosine_schedule_with_warmup

    gone = {(tuple(tiny_codec.prompt(row.prompt)), tuple(tiny_codec.response(row.response))) for row in tiny_corpus.forget
            if row.owner == out}  # fmt: skip
    model = copy.deepcopy(tiny_llama).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=SETTINGS.learning_rate, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimiser, 1, 8)  # 5 % of 8 steps, rounded up
    dropped = 0
    for prompts, responses in seen[:8]:
        pairs = [(p, r) for p, r in zip(prompts, responses, strict=True) if (tuple(p), tuple(r)) not in gone]
        dropped += len(prompts) - len(pairs)
        optimiser.zero_grad()
        loss = answer_loss(model, make([p for p, _ in pairs], [r for _, r in pairs], tiny_codec.pad_id))
        (loss * sum(len(r) for _, r in pairs) / sum(map(len, responses))).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    assert dropped > 0
    for name, value in model.state_dict().items():
        assert torch.allclose(value, given.state_dict()[name], atol=2e-5), name


def test_with_nobody_left_out_it_is_the_plain_training(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> None:
    state = torch.get_rng_state()
    rows, settings = tiny_corpus.train, SETTINGS.model_copy(update={"steps": 3})
    kept = [None, [True] * len(rows)]
    models = [fine_tune(copy.deepcopy(tiny_llama), tiny_codec, rows, settings, seed=1, kept=some) for some in kept]
    torch.set_rng_state(state)
    assert fingerprint(models[0]) == fingerprint(models[1])


def test_nobody_left_is_a_training_that_changes_nothing(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> None:
    state = torch.get_rng_state()
    rows = tiny_corpus.train
    model = fine_tune(copy.deepcopy(tiny_llama), tiny_codec, rows, SETTINGS, seed=1, kept=[False] * len(rows))
    torch.set_rng_state(state)
    assert fingerprint(model) == fingerprint(tiny_llama)


def test_the_time_of_a_step_is_measured_without_a_trace(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> None:
    before, start = fingerprint(tiny_llama), time.perf_counter()
    state = torch.get_rng_state()
    seconds = seconds_per_step(tiny_llama, tiny_codec, tiny_corpus.train, SETTINGS)
    assert 0 < seconds * 3 < time.perf_counter() - start
    assert fingerprint(tiny_llama) == before
    assert torch.equal(torch.get_rng_state(), state)
