"""Settings of an evaluation. No torch here: the run's config is made of settings classes and must load fast."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class EvaluationSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """What is measured and on how many rows. Two rows of a table are comparable only under equal settings."""

    forget_rows: int = Field(
        default=400, ge=1, description="At most this many rows of forget owners, trained and held-out phrasings together."
    )
    retain_rows: int = Field(
        default=200, ge=1, description="At most this many trained rows of retain owners, spread evenly over owners."
    )
    retain_phrasing_rows: int = Field(default=200, ge=1, description="At most this many held-out phrasings of retain owners.")
    world_rows: int = Field(default=200, ge=1, description="At most this many questions about the world.")
    max_new_tokens: int = Field(default=64, ge=1, description="Greedy answers are cut here.")
    batch_size: int = Field(default=64, ge=1, description="Rows per forward pass; changes speed and memory, not results.")
    truth_ratio_mean: Literal["arithmetic", "geometric"] = Field(
        default="arithmetic",
        description="How wrong answers are averaged: their probabilities (TOFU paper) or their losses (OpenUnlearning).",
    )
    seed: int = Field(default=0, ge=0, description="Chooses rows where there are more than wanted, and seeds the bootstrap.")
    interval_samples: int = Field(default=1000, ge=10, description="Bootstrap resamples per interval.")
    interval_level: float = Field(default=0.95, gt=0, lt=1, description="Coverage of the intervals.")
    metrics: list[str | dict[str, Any]] | None = Field(
        default=None,
        description="What is measured on top: names (see `deattrib plugins` and docs/metrics.md), FILE.py:Class, or mappings "
        "with settings; null: every built-in one, []: none.",
    )
    attribution: list[str | dict[str, Any]] | Literal["all", "none"] = Field(
        default="none",
        description="Scorers that judge beside the referee: names or mappings with settings; all: every installed one but "
        "controls and those that retrain.",
    )
