"""One layout for every batch: prompts padded on the left, responses padded on the right.

Response token t of every row then sits in the same column, so a slice of the logits is a slice for all rows, and a
mask is a matter of lengths. Masks never come from `ids != pad_id`: the pad token may be the end-of-sequence token,
which is an action that the policy took.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """Prompts with their responses, as token ids.

    Attributes:
        prompt_ids: [B, P] int64, left padded.
        prompt_lengths: [B] int64, at least 1.
        response_ids: [B, T] int64, right padded; includes the end-of-sequence token where the row has one.
        response_lengths: [B] int64; the end-of-sequence token counts, padding does not.
    """

    prompt_ids: Tensor
    prompt_lengths: Tensor
    response_ids: Tensor
    response_lengths: Tensor

    def __len__(self) -> int:
        return self.prompt_ids.shape[0]

    @property
    def prompt_mask(self) -> Tensor:
        """[B, P] bool."""
        width = self.prompt_ids.shape[1]
        return torch.arange(width, device=self.prompt_ids.device) >= (width - self.prompt_lengths)[:, None]

    @property
    def response_mask(self) -> Tensor:
        """[B, T] bool."""
        return torch.arange(self.response_ids.shape[1], device=self.response_ids.device) < self.response_lengths[:, None]

    @property
    def input_ids(self) -> Tensor:
        """[B, P + T] int64."""
        return torch.cat([self.prompt_ids, self.response_ids], 1)

    @property
    def attention_mask(self) -> Tensor:
        """[B, P + T] int64."""
        return torch.cat([self.prompt_mask, self.response_mask], 1).long()

    @property
    def position_ids(self) -> Tensor:
        """[B, P + T] int64, counting from the first real token (models with learned positions need this)."""
        return (self.attention_mask.cumsum(1) - 1).clamp(min=0)

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same batch on a device."""
        return TokenBatch(*(getattr(self, name).to(device) for name in self.__slots__))

    def rows(self, index: Tensor | slice) -> TokenBatch:
        """Some rows: `index` is a slice, row numbers [k], or a mask [B].

        Padding is kept, so that the numbers of a row do not depend on which others are taken.
        """
        return TokenBatch(*(getattr(self, name)[index] for name in self.__slots__))

    def trimmed(self) -> TokenBatch:
        """Without the columns that are padding in every row; one column of responses stays."""
        prompt, response = int(self.prompt_lengths.max()), max(int(self.response_lengths.max()), 1)
        return TokenBatch(
            self.prompt_ids[:, -prompt:], self.prompt_lengths, self.response_ids[:, :response], self.response_lengths
        )

    @staticmethod
    def from_lists(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad_id: int) -> TokenBatch:
        """Pad lists of ids; an empty response still gets one (masked) column."""
        width = max((len(ids) for ids in prompts), default=1)
        height = max(max((len(ids) for ids in responses), default=1), 1)
        return TokenBatch(
            torch.tensor([[pad_id] * (width - len(ids)) + list(ids) for ids in prompts], dtype=torch.int64),
            torch.tensor([len(ids) for ids in prompts], dtype=torch.int64),
            torch.tensor([list(ids) + [pad_id] * (height - len(ids)) for ids in responses], dtype=torch.int64),
            torch.tensor([len(ids) for ids in responses], dtype=torch.int64),
        )

    def response_lists(self) -> list[list[int]]:
        """The response ids of every row without padding."""
        return [row[:length] for row, length in zip(self.response_ids.tolist(), self.response_lengths.tolist(), strict=True)]

    def prompt_lists(self) -> list[list[int]]:
        """The prompt ids of every row without padding."""
        width = self.prompt_ids.shape[1]
        return [row[width - n :] for row, n in zip(self.prompt_ids.tolist(), self.prompt_lengths.tolist(), strict=True)]


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive pieces of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
