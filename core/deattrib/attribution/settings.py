"""Settings of attribution. Loads no torch."""

from __future__ import annotations

from pydantic import BaseModel, Field


class CalibrationSettings(BaseModel, extra="forbid", frozen=True):
    """How a scorer's scale is measured."""

    enabled: bool = Field(True, description="False passes raw scores through; scorers outside [0, 1] are then refused (paper).")
    rows: int = Field(128, ge=8, description="Sampled answers on each side, at most.")
    temperature: float = Field(1.0, gt=0, description="Sampling temperature of the answers on both sides.")
    max_new_tokens: int = Field(64, gt=0, description="Longest sampled answer.")
    noise_floor: float = Field(
        3.0, gt=0, description="m1 - m0 must exceed this many standard errors of the difference, else bins are pooled."
    )
