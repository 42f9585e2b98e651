"""Checkpoints that tests save: what is in one follows from its step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from deattrib.runs.checkpoint import checkpoint_step, load_checkpoint


def state_of(step: int) -> dict[str, Any]:
    return {"step": step, "weights": torch.full((1000,), float(step)), "optimizer": {"state": {0: {"m": torch.tensor(step)}}}}


def check(path: Path, step: int) -> None:
    """That it is the checkpoint of that step, whole."""
    loaded = load_checkpoint(path)
    assert loaded["step"] == step == checkpoint_step(path)
    assert torch.equal(loaded["weights"], torch.full((1000,), float(step)))
    assert loaded["optimizer"]["state"][0]["m"].item() == step


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
