"""Rows of similar length together: what a batch of long and short answers spends on padding is not spent.

A term of the loss is a mean over the whole batch's tokens whatever its parts, so parts change rounding and nothing else.
"""

from __future__ import annotations

from deattrib.models.batch import TokenBatch
from deattrib.models.ranks import ProcessGroup

POSITIONS = 1024  # of a part at least; smaller products are not faster
ROWS = 8
FILLED = 0.75  # share of positions that are tokens at which a batch stays whole


def by_length(batch: TokenBatch, processes: ProcessGroup) -> list[tuple[list[int], TokenBatch]]:
    """Row numbers and rows of each part, short rows first; the batch itself where that is as good.

    Several processes stay with one part each: with spread weights all must make as many passes, and what is short here need not
    be short elsewhere.
    """
    rows, width = len(batch), batch.prompt_ids.shape[1] + batch.response_ids.shape[1]
    lengths = batch.prompt_lengths + batch.response_lengths
    count = min(rows // ROWS, rows * width // POSITIONS)
    if processes.size > 1 or count < 2 or int(lengths.sum()) >= FILLED * rows * width:
        return [(list(range(rows)), batch)]
    order = lengths.argsort(stable=True)
    return [(index.tolist(), batch.rows(index).trimmed()) for index in order.split(-(-rows // count))]
