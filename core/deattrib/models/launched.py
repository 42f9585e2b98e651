"""Whether a launcher such as torchrun has started this process as one of several; loads no torch.

Asked before the run begins: afterwards `deattrib.models.processes` has taken the launcher's variables out of the environment.
"""

from __future__ import annotations

import os


def several_in_environment() -> int:
    """How many processes a launcher such as torchrun has started this one as part of; 1 where none has."""
    size = os.environ.get("WORLD_SIZE", "1")
    return int(size) if size.isdigit() and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys() else 1


def leads_in_environment() -> bool:
    """Whether this process is the one that speaks: the only one, or number 0 of several."""
    return several_in_environment() == 1 or os.environ.get("RANK") == "0"
