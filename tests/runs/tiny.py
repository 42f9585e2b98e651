"""The smallest run there is: four made-up authors, a model of some ten thousand parameters, seconds from end to end."""

from __future__ import annotations

from typing import Any

TINY: dict[str, Any] = {
    "name": "tiny",
    "corpus": {
        "kind": "fictitious", "owners": 4, "facts": 4, "forget": 1, "shadow_owners": 4, "holdout_owners": 1, "world_repeats": 1,
    },
    "model": {
        "scratch": {"hidden": 48, "layers": 2, "heads": 2, "intermediate": 96, "vocabulary": 500},
        "base_training": {"steps": 60, "batch_size": 16, "learning_rate": 0.005},
        "training": {"steps": 120, "batch_size": 8, "learning_rate": 0.008},
    },
    "policy": {"rank": 4},
    "ppo": {"steps": 6, "batch_size": 6, "minibatch_size": 6, "epochs": 1, "max_new_tokens": 12,
            "retain": {"batch_size": 4}, "anchor": {"batch_size": 4}},
    "reward": {"name": "classifier", "epochs": 30},
    "referee": {"scorer": {"name": "classifier", "backbone": "ngram", "epochs": 30}},
    "calibration": {"rows": 16, "max_new_tokens": 12, "noise_floor": 1.0},
    "evaluation": {"max_new_tokens": 12, "interval_samples": 20, "retain_rows": 6, "retain_phrasing_rows": 6, "world_rows": 6},
    "checkpoints": {"every": 2, "keep": 2},
}  # fmt: skip
