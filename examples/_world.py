"""What the examples run on: the 20 made-up authors of `deattrib demo`, or with `--tiny` the four of tiny.yaml.

Their models are made from nothing the first time (minutes; with `--tiny` seconds) and come from the cache after that. In your
own script a file and a folder take the place of all this: see own_model.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deattrib import Corpus, Models, RunConfig, build_config, load_corpus, prepare_models

DEMO: dict[str, Any] = {
    "name": "demo",
    "corpus": {"kind": "fictitious", "owners": 20, "facts": 20, "forget": 2, "shadow_owners": 80, "world_repeats": 24},
    "model": {
        "base_training": {"steps": 1000, "learning_rate": 0.002, "batch_size": 16},
        "training": {"steps": 600, "learning_rate": 0.0015, "batch_size": 16, "world": True},
    },
    "ppo": {"learning_rate": 0.005},
}


def arguments(text: str | None) -> argparse.Namespace:
    """The options that all examples have; `text` is the example's docstring."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="four authors and a toy of a model: seconds instead of minutes")
    parser.add_argument("--output", type=Path, default=Path("runs"), help="folder for what is written")
    return parser.parse_args()


def config(tiny: bool, *overrides: str, reward: str | None = None) -> RunConfig:
    """Settings of a run, with `overrides` as `--set` takes them."""
    if tiny:
        return build_config(path=Path(__file__).with_name("tiny.yaml"), overrides=overrides, reward=reward)
    return build_config(data=DEMO, overrides=overrides, reward=reward)


def world(settings: RunConfig) -> tuple[Corpus, Models]:
    """Corpus and models of these settings, without oracles."""
    corpus = load_corpus(settings.corpus, settings.seed)
    without = settings.model.model_copy(update={"oracles": 0})
    return corpus, prepare_models(corpus, without, seed=settings.seed, say=print)
