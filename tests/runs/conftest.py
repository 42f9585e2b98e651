"""A run's loop on a fresh copy of the smallest model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.ppo.toy import small
from tests.runs.loops import REGISTRY, Even, Heard
from torch import nn

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.settings import CalibrationSettings
from deattrib.corpus.types import Corpus
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib.ppo.unlearner import Unlearner
from deattrib.runs.config import CheckpointSettings
from deattrib.runs.folder import RunFolder
from deattrib.runs.loop import Loop
from deattrib.runs.signals import Stopping


@pytest.fixture
def make(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus, tmp_path: Path) -> Callable[..., tuple[Loop, Heard]]:
    """make(name, at=None, **settings) -> a loop in the run folder of that name, made or opened, and who listens to it."""
    loops: list[Loop] = []

    def build(name: str, at: Any = None, *, every: int = 100, guard: Any = None, identity: Any = None, **changes: Any) -> Any:
        sizes = {"steps": 5, "epochs": 1, "reward": {"slices": 3, "granularity": "sequence", "kl": 0.0}}
        settings = small(**{**sizes, "anchor": {"hinge": 0.0, "kl": 0.0}, **changes})
        for loop in loops:
            loop.folder.close()
        path = tmp_path / name
        folder = RunFolder.open(path) if path.exists() else RunFolder.create(path, {"a": 1}, seeds={}, fingerprints={})
        reward = Attributor(Even, registry=REGISTRY, calibration=CalibrationSettings(enabled=False), guard=guard)
        reward.fit(tiny_corpus, LanguageModel(copy.deepcopy(tiny_llama), tiny_codec))
        reward._parts[0].guard.scorer.at = at  # type: ignore[attr-defined]
        policy = Policy(copy.deepcopy(tiny_llama), tiny_codec, PolicySettings(rank=4, alpha=8.0), seed=0)
        reward.watch(policy)
        unlearner = Unlearner(policy, tiny_corpus, reward, settings, seed=0)
        heard = Heard()
        known = identity or {"corpus": "x", "plugins": {"d": "1"}}
        checkpoints = CheckpointSettings(every=every, keep=3)
        loops.append(Loop(unlearner, reward, folder, checkpoints, known, {"reward": "even"}, REGISTRY, heard, Stopping()))
        return loops[-1], heard

    return build
