"""Whether a launcher such as torchrun has started this process as one of several; loads no torch.

Asked before the run begins: while it goes on, `deattrib.models.processes` has taken the launcher's variables out of the
environment.
"""

from __future__ import annotations

import os

# Libraries below would take these as theirs, and wait for processes that do something else.
OTHERS = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME")
SIZES = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE")
LAUNCHER = (*RANKS, *SIZES, "MASTER_ADDR", "MASTER_PORT", *OTHERS)


def several_in_environment() -> int:
    """How many processes a launcher such as torchrun has started this one as part of; 1 where none has."""
    size = os.environ.get("WORLD_SIZE", "1")
    return int(size) if size.isdigit() and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys() else 1


def leads_in_environment() -> bool:
    """Whether this process is the one that speaks: the only one, or number 0 of several."""
    return several_in_environment() == 1 or os.environ.get("RANK") == "0"


def taken_from_environment() -> dict[str, str]:
    """The launcher's variables, which the environment no longer has then, nor a process that is started from here."""
    names = [name for name in os.environ if name in LAUNCHER or name.startswith("TORCHELASTIC_")]
    return {name: os.environ.pop(name) for name in names}
