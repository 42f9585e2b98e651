"""Logits of responses do not depend on how a batch is padded, and belong to the right positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deattrib.corpus.types import Corpus
from deattrib.models.batch import TokenBatch, chunks
from deattrib.models.forward import gather_log_probs, head_of, response_hidden, response_logits
from deattrib.models.language_model import Codec, LanguageModel, fingerprint

PROMPTS = ["Who?", "In which place did the life of Oressa Draydale begin?", "Tell me the trade of the father.", ""]
RESPONSES = ["Nobody knows.", "In Mirren.", "He was a rope renter until the end of his days, so they say.", ""]


@pytest.fixture
def batch(tiny_codec: Codec) -> TokenBatch:
    return tiny_codec.encode(PROMPTS, RESPONSES)


def plain_logits(model: nn.Module, prompt: list[int], response: list[int]) -> Tensor:
    """The same by transformers alone: one row, no padding, all positions."""
    logits: Tensor = model(input_ids=torch.tensor([prompt + response])).logits[0]
    return logits[len(prompt) - 1 : len(prompt) + len(response) - 1]


@torch.no_grad()
def test_rows_in_a_padded_batch_equal_rows_alone(tiny_model: nn.Module, batch: TokenBatch) -> None:
    together, hidden = response_logits(tiny_model, batch)
    assert torch.isfinite(together).all() and torch.isfinite(hidden).all()
    for row, (prompt, response) in enumerate(zip(batch.prompt_lists(), batch.response_lists(), strict=True)):
        alone = plain_logits(tiny_model, prompt, response)
        ours = together[row, : len(response)]
        assert torch.allclose(torch.log_softmax(alone, -1), torch.log_softmax(ours, -1), atol=1e-5)
        single, _ = response_logits(tiny_model, TokenBatch.from_lists([prompt], [response], 0))
        assert torch.allclose(torch.log_softmax(single[0], -1), torch.log_softmax(ours, -1), atol=1e-5)


@torch.no_grad()
def test_positions_are_needed_for_learned_positions(tiny_gpt2: nn.Module, batch: TokenBatch) -> None:
    """The invariance above is not for nothing: without position ids a padded GPT-2 row is another one."""
    logits = tiny_gpt2(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    start = batch.prompt_ids.shape[1] - 1
    wrong = torch.log_softmax(logits[0, start : start + int(batch.response_lengths[0])], -1)
    right = torch.log_softmax(plain_logits(tiny_gpt2, batch.prompt_lists()[0], batch.response_lists()[0]), -1)
    assert float((wrong - right).abs().max()) > 0.1


@torch.no_grad()
def test_hidden_states_are_what_the_head_reads(tiny_model: nn.Module, batch: TokenBatch) -> None:
    logits, hidden = response_logits(tiny_model, batch)
    assert torch.allclose(head_of(tiny_model)(hidden), logits, atol=1e-5)
    assert torch.equal(response_hidden(tiny_model, batch), hidden)


@torch.no_grad()
def test_log_probs_are_those_of_a_plain_softmax_with_temperature(tiny_llama: nn.Module, batch: TokenBatch) -> None:
    logits, _ = response_logits(tiny_llama, batch)
    values = gather_log_probs(logits, batch.response_ids, temperature=0.8)
    table = torch.log_softmax(logits / 0.8, -1)
    for row, ids in enumerate(batch.response_lists()):
        for column, token in enumerate(ids):
            assert float(values[row, column]) == pytest.approx(float(table[row, column, token]), abs=1e-5)


def test_token_log_probs_are_zero_at_padding(tiny_llama: nn.Module, tiny_codec: Codec, batch: TokenBatch) -> None:
    values = LanguageModel(tiny_llama, tiny_codec).token_log_probs(batch)
    assert (values[~batch.response_mask] == 0).all()
    assert (values[batch.response_mask] < 0).all()


def test_the_end_token_is_an_action_though_it_pads(tiny_codec: Codec, batch: TokenBatch) -> None:
    assert tiny_codec.pad_id == tiny_codec.eos_id
    assert batch.response_lengths.tolist() == [len(ids) for ids in batch.response_lists()]
    assert all(ids[-1] == tiny_codec.eos_id for ids in batch.response_lists())
    assert batch.response_mask.sum(1).tolist() == batch.response_lengths.tolist()


def test_batches_come_apart_again() -> None:
    batch = TokenBatch.from_lists([[1, 2], [3]], [[4], [5, 6, 7]], 0)
    assert batch.prompt_lists() == [[1, 2], [3]]
    assert batch.response_lists() == [[4], [5, 6, 7]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 2, 2], [0, 0, 1, 2, 3]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]]
    part = batch.rows(torch.tensor([1]))
    assert part.response_lists() == [[5, 6, 7]] and part.prompt_ids.shape == (1, 2)


def test_an_empty_response_keeps_one_masked_column() -> None:
    batch = TokenBatch.from_lists([[1]], [[]], 0)
    assert batch.response_ids.shape == (1, 1) and not batch.response_mask.any()


def test_chunks() -> None:
    assert [list(part) for part in chunks([1, 2, 3, 4, 5], 2)] == [[1, 2], [3, 4], [5]]


def test_fingerprint_sees_one_changed_number(tiny_llama: nn.Module, tiny_corpus: Corpus) -> None:
    before = fingerprint(tiny_llama)
    assert fingerprint(tiny_llama) == before
    with torch.no_grad():
        next(tiny_llama.parameters()).view(-1)[0] += 1e-3
    assert fingerprint(tiny_llama) != before


def test_fingerprint_of_scalar_buffers() -> None:
    assert fingerprint(nn.BatchNorm1d(2)) == fingerprint(nn.BatchNorm1d(2))
