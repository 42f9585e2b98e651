"""The main job in a minute, to see whether this installation can do it: made-up owners, a toy of a model, one step of PPO.

The numbers mean nothing; that they are there, finite and where they belong is what is looked at. Everything is made in a folder
that is gone afterwards, so that a cache in disorder cannot pass or fail the test.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

SETTINGS: Final[dict[str, Any]] = {
    "name": "self-test",
    "corpus": {
        "kind": "fictitious", "owners": 4, "facts": 4, "forget": 1, "shadow_owners": 4, "holdout_owners": 1, "world_repeats": 1,
    },
    "model": {
        "device": "cpu",
        "oracles": 0,
        "scratch": {"hidden": 32, "layers": 2, "heads": 2, "intermediate": 64, "vocabulary": 400},
        "base_training": {"steps": 10, "batch_size": 8, "learning_rate": 0.005},
        "training": {"steps": 40, "batch_size": 8, "learning_rate": 0.01},
    },
    "policy": {"rank": 4},
    "ppo": {
        "steps": 1, "batch_size": 4, "minibatch_size": 4, "epochs": 1, "max_new_tokens": 8,
        "retain": {"batch_size": 4}, "anchor": {"batch_size": 4},
    },
    "reward": {"name": "classifier", "epochs": 10},
    "referee": {"halves": False},
    "calibration": {"enabled": False},  # whether so small a model knows its owners must not decide
}  # fmt: skip


@dataclass(slots=True)
class Stage:
    """One part of the self-test: wall time in seconds, and what went wrong ("" if nothing did)."""

    name: str
    seconds: float = 0.0
    error: str = ""


def self_test(say: Callable[[str], None] = lambda name: None) -> dict[str, Any]:
    """Make a corpus and a model, fit a scorer, take one step; stops at the first stage that fails and never raises.

    Args:
        say: is told each stage's name as it begins.

    Returns:
        plain values: passed, seconds, stages (name, seconds, error), figures of the step.
    """
    stages: list[Stage] = []
    figures: dict[str, float] = {}
    try:
        with tempfile.TemporaryDirectory() as cache:
            figures = _one_step(stages, say, Path(cache))
    except Exception as error:  # what is wrong with an installation shows as anything
        last = stages[-1] if stages else Stage("begin")
        last.error = last.error or f"{type(error).__name__}: {error}"
        stages = stages or [last]
    return {
        "passed": not any(stage.error for stage in stages),
        "seconds": round(sum(stage.seconds for stage in stages), 2),
        "stages": [asdict(stage) for stage in stages],
        "figures": figures,
    }


def _one_step(stages: list[Stage], say: Callable[[str], None], cache: Path) -> dict[str, float]:
    @contextmanager
    def stage(name: str) -> Iterator[None]:
        say(name)
        stages.append(Stage(name))
        start = time.monotonic()
        try:
            yield
        except Exception as error:
            stages[-1].error = f"{type(error).__name__}: {error}"
            raise
        finally:
            stages[-1].seconds = round(time.monotonic() - start, 2)

    with stage("import"):
        from deattrib.attribution.plugins import PluginRegistry
        from deattrib.corpus.settings import load_corpus
        from deattrib.models.threads import one_thread_if_small
        from deattrib.runs.config import build_config
        from deattrib.runs.prepare import prepare_models
        from deattrib.runs.session import Session
    with stage("corpus"):
        config = build_config(data=SETTINGS)
        corpus = load_corpus(config.corpus, config.seed)
    with stage("model"):
        models = prepare_models(corpus, config.model, seed=config.seed, cache=cache)
    with one_thread_if_small(models.original.model) as spare:
        with stage("scorer"):
            session = Session(config, corpus, models.original, models.base, registry=PluginRegistry())
            attributor = session.fit_reward(None)
            rows = [(row.prompt, row.response, row.owner) for row in corpus.forget]
            values = [float(value) for value in attributor.attribution(rows)]
            if not all(0 <= value <= 1 for value in values):
                raise ValueError(f"attributions outside [0, 1]: {values}")
        with stage("PPO step"):
            (step,) = session.make_unlearner(attributor, ahead=spare)
            wrong = {name: value for name, value in step.figures.items() if not math.isfinite(value)}
            if wrong:
                raise ValueError(f"figures that are no numbers: {wrong}")
    return dict(step.figures)
