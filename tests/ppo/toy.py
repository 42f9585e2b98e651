"""A loop small enough to run many times: few rows, short answers, and sources of attribution made of token counts."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from deattrib.attribution.scorer import Rows
from deattrib.ppo.settings import PPOSettings
from deattrib.ppo.unlearner import Unlearner
from deattrib.runs.config import build_config


class EvenTokens:
    """Attribution = share of even token ids in the prefix: something that a policy can learn to avoid."""

    chance = 0.0
    calls = 0

    def attribution(self, rows: Rows, ends: Tensor | None = None) -> Tensor:
        self.calls += 1
        stops = rows.batch.response_lengths[:, None] if ends is None else ends
        even = torch.nn.functional.pad((rows.batch.response_ids % 2 == 0).float().cumsum(1), (1, 0))
        shares = even.gather(1, stops) / stops.clamp(min=1)
        return shares if ends is not None else shares[:, 0]


class Fixed:
    """The same attribution for everything."""

    chance = 0.0

    def __init__(self, value: float) -> None:
        self.value = value

    def attribution(self, rows: Rows, ends: Tensor | None = None) -> Tensor:
        return torch.full((len(rows),) if ends is None else tuple(ends.shape), self.value)


SMALL: dict[str, Any] = {
    "steps": 6, "batch_size": 5, "minibatch_size": 5, "epochs": 2, "learning_rate": 5e-3, "warmup": 1,
    "max_new_tokens": 8, "target_kl": None,
    "reward": {"slices": 3}, "retain": {"batch_size": 3}, "anchor": {"batch_size": 3},
}  # fmt: skip


def small(**changes: Any) -> PPOSettings:
    """Settings of a loop of milliseconds per step; nested mappings are merged."""
    data = copy.deepcopy(SMALL)
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
    return PPOSettings(**data)


def paper(**changes: Any) -> PPOSettings:
    """The paper's preset with the sizes of the tests."""
    sizes = {key: value for key, value in SMALL.items() if key not in ("warmup", "anchor")} | {"epochs": 2, **changes}
    return build_config(data={"preset": "paper", "ppo": {"data_epochs": None, **sizes}}).ppo


def run(unlearner: Unlearner, steps: int | None = None) -> list[dict[str, float]]:
    """The figures of the next steps, or of all that are left."""
    history = []
    for step in unlearner:
        history.append(dict(step.figures))
        if steps is not None and len(history) == steps:
            break
    return history
