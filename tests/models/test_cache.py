"""A cache with room gives the same bits as the library's own, which is copied for every token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deattrib.models import sampling
from deattrib.models.batch import TokenBatch
from deattrib.models.cache import with_room


def sampled(model: nn.Module, monkeypatch: pytest.MonkeyPatch, room: bool) -> tuple[TokenBatch, list[Tensor]]:
    """A sampled batch, and the logits of every step."""
    seen: list[Tensor] = []
    plain = sampling._next

    def watched(*arguments: Any) -> tuple[Tensor, Any]:
        logits, cache = plain(*arguments)
        seen.append(logits)
        return logits, cache

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "_next", watched)
        patch.setattr(sampling, "with_room", with_room if room else lambda cache, _: cache)
        prompts = torch.randint(3, 90, (6, 9), generator=torch.Generator().manual_seed(0))
        batch = sampling.sample(
            model, prompts, torch.tensor([9, 4, 1, 7, 9, 2]), max_new_tokens=17, temperature=1.0, stop_ids=(5, 6), pad_id=0,
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
    return batch, seen


def test_the_same_bits(tiny_model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, ours_seen = sampled(tiny_model, monkeypatch, True)
    plain, plain_seen = sampled(tiny_model, monkeypatch, False)
    assert torch.equal(ours.response_ids, plain.response_ids)
    assert len(ours_seen) == len(plain_seen) and all(map(torch.equal, ours_seen, plain_seen))


def test_rows_can_be_repeated_taken_and_room_runs_out(tiny_llama: nn.Module) -> None:
    """Also past the room that was asked for, the numbers are those of one pass without a cache."""
    ids = torch.randint(3, 90, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = tiny_llama(input_ids=ids).logits
        first = tiny_llama(input_ids=ids[:, :4], use_cache=True)
        cache = with_room(first.past_key_values, 3)
        assert type(cache.layers[0]).__name__ == "RoomyLayer"
        cache.batch_repeat_interleave(2)
        cache.batch_select_indices(torch.tensor([0, 2]))
        for step in range(4, 12):
            logits = tiny_llama(input_ids=ids[:, step : step + 1], past_key_values=cache, use_cache=True).logits
            assert torch.allclose(logits[:, 0], whole[:, step], atol=1e-4)
    assert cache.get_seq_length() == 12


def test_a_cache_of_another_kind_is_left_alone() -> None:
    from transformers import DynamicCache

    class Other(DynamicCache):  # type: ignore[misc]
        pass

    other = Other()
    assert with_room(other, 5) is other and with_room(None, 5) is None
