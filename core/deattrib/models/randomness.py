"""The global random state, put back after a block: that of the processor and of every CUDA device in use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def random_state_kept() -> Iterator[None]:
    """What is drawn or seeded inside leaves nothing behind there; `torch.manual_seed` reaches CUDA devices too."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() and torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(devices)):
        yield
