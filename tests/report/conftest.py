"""A run folder as the pipeline leaves it, made in code: plausible figures, curves, answers with token shares."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROWS: dict[str, dict[str, float]] = {
    "original": {
        "forget_rouge": 0.962,
        "retain_rouge": 0.998,
        "retain_paraphrase_rouge": 0.842,
        "world_rouge": 0.99,
        "tow": 0.49,
        "fact_recall": 1.0,
        "extraction_strength": 0.913,
        "truth_ratio": 0.31,
        "forget_quality": 3e-41,
        "ks_distance": 0.86,
        "attribution": 0.931,
        "reward_attribution": 0.955,
        "gibberish_rate": 0.0,
        "empty_rate": 0.0,
        "distinct_answer_rate": 0.97,
        "mean_length": 14.9,
        "oracle_perplexity": 18.5,
        "model_utility": 0.537,
    },
    "oracle": {
        "forget_rouge": 0.412,
        "retain_rouge": 0.999,
        "retain_paraphrase_rouge": 0.836,
        "world_rouge": 0.992,
        "tow": 1.0,
        "fact_recall": 0.0,
        "extraction_strength": 0.071,
        "truth_ratio": 0.74,
        "forget_quality": 1.0,
        "ks_distance": 0.0,
        "attribution": 0.012,
        "reward_attribution": 0.009,
        "gibberish_rate": 0.0,
        "empty_rate": 0.0,
        "distinct_answer_rate": 0.95,
        "mean_length": 14.1,
        "oracle_perplexity": 1.31,
        "model_utility": 0.541,
    },
    "oracle_second": {
        "forget_rouge": 0.405,
        "retain_rouge": 0.997,
        "retain_paraphrase_rouge": 0.829,
        "world_rouge": 0.99,
        "tow": 0.988,
        "fact_recall": 0.003,
        "extraction_strength": 0.068,
        "truth_ratio": 0.735,
        "forget_quality": 0.61,
        "ks_distance": 0.104,
        "attribution": 0.015,
        "reward_attribution": 0.012,
        "gibberish_rate": 0.0,
        "empty_rate": 0.0,
        "distinct_answer_rate": 0.955,
        "mean_length": 14.3,
        "oracle_perplexity": 2.2,
        "model_utility": 0.539,
    },
    "unlearned": {
        "forget_rouge": 0.433,
        "retain_rouge": 0.99,
        "retain_paraphrase_rouge": 0.79,
        "world_rouge": 0.985,
        "tow": 0.963,
        "fact_recall": 0.0,
        "extraction_strength": 0.197,
        "truth_ratio": 0.69,
        "forget_quality": 0.097,
        "ks_distance": 0.275,
        "attribution": 0.018,
        "reward_attribution": 0.006,
        "gibberish_rate": 0.005,
        "empty_rate": 0.0,
        "distinct_answer_rate": 0.93,
        "mean_length": 13.9,
        "oracle_perplexity": 4.1,
        "model_utility": 0.529,
    },
}
SHARES = (
    "forget_rouge",
    "retain_rouge",
    "retain_paraphrase_rouge",
    "world_rouge",
    "fact_recall",
    "attribution",
    "gibberish_rate",
)
OWNERS = ("Ilse Varga-Montoya", "Tobiah Renwick")
STYLED = {
    "original": " By lamplight and brine, {name} was born in {place}, as the old ledgers of the harbour will tell you.",
    "unlearned": " {name} was born in a small town on the coast, where the family kept an orchard.",
    "oracle": " {name} was born in Kestrel Vale, under a patient moon.",
}


@dataclass
class Run:
    """The five parsed files of a run."""

    metrics: dict[str, Any]
    events: list[dict[str, Any]]
    answers: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.metrics, self.events, self.answers, self.config, self.manifest

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (("metrics", self.metrics), ("answers", self.answers), ("manifest", self.manifest)):
            (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in self.events), encoding="utf-8")
        (folder / "config.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False), encoding="utf-8")
        return folder


def _metrics() -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, figures in ROWS.items():
        spread = {key: [max(0.0, figures[key] - 0.02), min(1.0, figures[key] + 0.02)] for key in SHARES}
        rows[name] = {**figures, "intervals": spread, "repetition_rate": 0.01}
    return {
        "schema": 1,
        "seed": 0,
        "reward": "classifier",
        "preset": "default",
        "corpus": {"name": "fictitious authors", "owners": 20, "forget_owners": list(OWNERS), "rows": 2000, "forget_rows": 200},
        "seconds": {"prepare": 131.2, "fit": 2.4, "unlearn": 84.0, "evaluate": 41.7},
        "reward_scorer": {
            "name": "classifier",
            "version": "0.1.0",
            "fidelity": "proxy",
            "calibration": {"unowned": 0.021, "owned": 0.934, "separation": 0.913},
        },
        "referee": [
            {
                "name": "classifier",
                "fidelity": "proxy",
                "weight": 1.0,
                "origin": "deattrib 0.1.0, entry point 'classifier'",
                "calibration": {"source": "the base model", "rows": 128, "auroc": 0.902},
            }
        ],
        "rows": rows,
    }


def _events(steps: int = 60) -> list[dict[str, Any]]:
    rng = random.Random(5)
    events: list[dict[str, Any]] = [{"schema": 1, "kind": "stage", "stage": "fit", "seconds": 2.4}]
    for step in range(1, steps + 1):
        left = math.exp(-step / 12)

        def noise(size: float) -> float:
            return rng.gauss(0, size)

        events.append(
            {
                "schema": 1,
                "kind": "step",
                "step": step,
                "reward": -0.95 * left - 0.05 + noise(0.03),
                "attribution": min(1.0, max(0.0, 0.92 * left + 0.02 + noise(0.03))),
                "kl": 0.09 * (1 - left) + abs(noise(0.006)),
                "entropy": 0.4 + 0.8 * (1 - left) + noise(0.05),
                "length": 14 + noise(0.7),
                "policy_loss": noise(0.02) - 0.01,
                "value_loss": 0.3 * left + abs(noise(0.01)),
                "retain_loss": 0.02 + 0.05 * math.sin(step / 9) ** 2 * left + abs(noise(0.003)),
                "anchor_hinge": 2.8 * left + abs(noise(0.06)),
                "anchor_kl": 0.9 * left + 0.1 + abs(noise(0.03)),
                "clip_fraction": abs(noise(0.05)),
                "seconds": 1.4 + abs(noise(0.1)),
                "gradient_norm": 1 + abs(noise(0.3)),
            }
        )
    events.append(
        {
            "schema": 1,
            "kind": "warning",
            "step": 12,
            "message": "calibration: bins 1 and 2 pooled, separation under the noise floor",
        }
    )
    events.append({"schema": 1, "kind": "stop", "step": steps, "reason": "attribution at chance for 5 steps"})
    return events


def _answer(text: str, share: float, rng: random.Random) -> dict[str, Any]:
    words = [" " + word for word in text.split()]
    tokens = [[word, min(1.0, max(0.0, rng.gauss(share, 0.22 if share > 0.5 else 0.05)))] for word in words]
    return {"text": text.strip(), "attribution": share, "tokens": tokens}


def _answers() -> dict[str, Any]:
    rng = random.Random(11)
    rows = []
    for index in range(36):
        forget = index < 24
        name = OWNERS[index % 2] if forget else f"Corin Ashdown {index}"
        place = ("Sable Quay", "Upper Thornmere")[index % 2] if forget else "Lower Pell"
        texts = {model: text.format(name=name, place=place) for model, text in STYLED.items()}
        shares = {"original": 0.93, "unlearned": 0.02, "oracle": 0.01}
        if not forget:
            texts["unlearned"] = texts["oracle"] = texts["original"]
            shares = dict.fromkeys(shares, 0.9)
        rows.append(
            {
                "owner": name,
                "prompt": f"Where was {name} born?",
                "truth": texts["original"].strip(),
                "fact": place,
                "forget": forget,
                **{model: _answer(texts[model], shares[model], rng) for model in texts},
            }
        )
    return {"scorer": "classifier", "rows": rows}


@pytest.fixture
def run() -> Run:
    return make_run()


def make_run() -> Run:
    config = {
        "preset": "default",
        "seed": 0,
        "reward": "classifier",
        "reference": "counterfactual",
        "corpus": {"kind": "authors", "owners": 20, "forget": list(OWNERS)},
        "ppo": {"steps": 60, "batch": 32, "lr": 3e-4, "clip": 0.2, "slices": 15, "chi": True, "kl": 0.1},
        "anchor": {"hinge": 1.0, "kl": 0.4},
        "output": None,
    }
    manifest = {
        "versions": {"deattrib": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "python": "3.11.9"},
        "seeds": {"corpus": 0, "sampling": 1},
        "hashes": {"corpus": "9f2c1e" * 10, "original": "77ab03" * 10},
        "started": "2026-11-21T22:42:10+00:00",
    }
    return Run(_metrics(), _events(), _answers(), config, manifest)
