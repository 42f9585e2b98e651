"""Rows of similar length together: what a batch of long and short answers spends on padding is not spent.

A term of the loss is a mean over the whole batch's tokens whatever its parts, so parts change rounding and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from deattrib.models.batch import TokenBatch

POSITIONS = 1024  # of a part at least; smaller products are not faster
ROWS = 8
FILLED = 0.75  # share of positions that are tokens at which a batch stays whole


def by_length(batch: TokenBatch) -> list[list[int]]:
    """Row numbers of parts, short rows first; one part, in the batch's order, where that is as good."""
    rows, width = len(batch), batch.prompt_ids.shape[1] + batch.response_ids.shape[1]
    lengths = (batch.prompt_lengths + batch.response_lengths).tolist()
    count = min(rows // ROWS, rows * width // POSITIONS)
    if count < 2 or sum(lengths) >= FILLED * rows * width:
        return [list(range(rows))]
    order, size = sorted(range(rows), key=lambda row: int(lengths[row])), -(-rows // count)
    return [order[start : start + size] for start in range(0, rows, size)]


def taken(batch: TokenBatch, index: Sequence[int], pad_id: int) -> TokenBatch:
    """Some rows, padded as they need it by themselves; on the CPU."""
    prompts, responses = batch.prompt_lists(), batch.response_lists()
    return TokenBatch.from_lists([prompts[row] for row in index], [responses[row] for row in index], pad_id)
