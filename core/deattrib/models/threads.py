"""How many threads one operation is given.

A small model's operations take less time than it takes to hand them to a second thread; two things side by side, one
thread each, do gain. One thread per operation also makes a small model's numbers independent of how many processors there
are, since sums are then always taken in one order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from deattrib.models.allocator import keep_freed_memory

SMALL = 20_000_000  # parameters


def is_small(model: nn.Module) -> bool:
    """Whether a model is so small that work is dearer than memory."""
    return sum(parameter.numel() for parameter in model.parameters()) < SMALL


@contextmanager
def one_thread_if_small(model: nn.Module) -> Iterator[bool]:
    """Inside, operations on a CPU take one thread where the model is small, else as many as before.

    A small model's process keeps the memory that it frees, from then on (`models/allocator.py`).

    Yields:
        whether processors are left that way for something else.
    """
    small = is_small(model) and all(parameter.device.type == "cpu" for parameter in model.parameters())
    if small:
        keep_freed_memory()
    threads = torch.get_num_threads()
    if not small or threads == 1:
        yield False
        return
    torch.set_num_threads(1)
    try:
        yield True
    finally:
        torch.set_num_threads(threads)
