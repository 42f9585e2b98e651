"""Finished runs made in code: metrics that agree with their figures of single rows, as a run's do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deattrib.compare.folders import ComparedRun, Label
from deattrib.evaluation.forget_quality import forget_quality
from deattrib.evaluation.row_file import RowFigures

FACTS, PHRASINGS = 8, 3
# How far from the oracle (0) to the original (1) each model is.
REFERENCES = {"original": 1.0, "oracle": 0.0, "oracle_second": 0.03}


def _columns(rng: np.random.Generator, share: float) -> dict[str, Any]:
    """Forget rows of a model that is `share` of the way from the oracle to the original."""
    count = FACTS * PHRASINGS
    return {
        "rouge": np.clip(0.4 + 0.5 * share + 0.05 * rng.standard_normal(count), 0, 1),
        "fact": (np.arange(count) < share * count).astype(float),
        "attribution": np.clip(0.02 + 0.8 * share + 0.01 * rng.standard_normal(count), 0, 1),
        "truth_ratio": np.exp(rng.standard_normal(count) * 0.3 - 2 * share),
        "loss": 0.3 + 3 * share + 0.1 * rng.random(count),
        "tokens": rng.integers(8, 20, count).astype(float),
    }


def _row(figures: RowFigures, model: str) -> dict[str, Any]:
    """The row of metrics.json that follows from figures of single rows."""

    def mean(part: str, figure: str) -> float:
        values = figures.of(model, part, figure)
        assert values is not None
        return float(np.mean(values.astype(np.float64)))

    loss, tokens = (np.asarray(figures.of(model, "forget", name), dtype=np.float64) for name in ("loss", "tokens"))
    quality = forget_quality(figures.columns[f"{model}/forget/truth_ratio"], figures.columns["oracle/forget/truth_ratio"])
    assert quality is not None
    return {
        "forget_rouge": mean("forget", "rouge"),
        "fact_recall": mean("forget", "fact"),
        "attribution": mean("forget", "attribution"),
        "ks_distance": quality.distance,
        "retain_rouge": mean("retain", "rouge"),
        "retain_paraphrase_rouge": mean("retain_phrasings", "rouge"),
        "world_rouge": mean("world", "rouge"),
        "oracle_perplexity": float(np.exp((loss * tokens).sum() / tokens.sum())),
        "model_utility": mean("retain", "rouge") * 0.7,
        "extraction_strength": 0.2,
        "tow": 0.9,
        "gibberish_rate": 0.0,
        "intervals": {"forget_rouge": [0.1, 0.9]},
    }


def _run(
    method: str = "dareu",
    reward: str = "classifier",
    variant: str = "",
    seed: int = 0,
    *,
    share: float = 0.05,
    kept: float = 0.99,
    rows: bool = True,
    folder: Path | None = None,
    **changes: Any,
) -> ComparedRun:
    """A run whose unlearned model is `share` of the way to the original and keeps `kept` of what it knew.

    Args:
        rows: whether it has figures of single rows.
        changes: figures of the unlearned model to replace in its metrics.
    """
    columns: dict[str, Any] = {}
    everything = {**REFERENCES, "unlearned": share}
    for number, (model, way) in enumerate(everything.items()):
        rng = np.random.default_rng([seed, number])
        columns |= {f"{model}/forget/{name}": values for name, values in _columns(rng, way).items()}
        level = kept if model == "unlearned" else 0.99
        for part in ("retain", "retain_phrasings", "world"):
            columns[f"{model}/{part}/rouge"] = np.clip(level - 0.02 * rng.random(FACTS), 0, 1)
    clusters = {"forget": tuple(f"o / {index // PHRASINGS}" for index in range(FACTS * PHRASINGS))}
    clusters |= {part: tuple(f"r / {index}" for index in range(FACTS)) for part in ("retain", "retain_phrasings", "world")}
    figures = RowFigures({name: np.asarray(values, dtype=np.float32) for name, values in columns.items()}, clusters)
    models = {model: _row(figures, model) for model in everything}
    models["unlearned"] |= changes
    metrics = {
        "schema": 1,
        "seed": seed,
        "reward": reward,
        "method": method,
        "corpus": {"name": "made up", "owners": 20, "forget_owners": ["a", "b"], "rows": 800, "forget_rows": 80},
        "reward_scorer": [{"name": reward, "fidelity": "exact" if reward == "exact" else "proxy"}],
        "rows": models,
        "seconds": {"unlearn": 12.5, "evaluate": 3.0},
    }
    config = {"name": "demo", "seed": seed, "method": method, "reward": reward, "ppo": {"steps": 45, "note": variant}}
    label = Label(method, reward, variant, seed)
    name = f"{method}-{reward}-{variant}-seed{seed}"
    return ComparedRun(name, label, folder, metrics, figures if rows else None, {"torch": "2.13.0"}, config)


@pytest.fixture
def make_run() -> Callable[..., ComparedRun]:
    return _run


@pytest.fixture
def failed_run() -> ComparedRun:
    return ComparedRun("rmu-seed0", Label("rmu", "classifier", "", 0), None, None, None, {}, {}, "layer 9 does not exist")
