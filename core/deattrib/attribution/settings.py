"""Settings of attribution. Loads no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

LONGEST = 1e9  # seconds; what a thread can wait for has an end (`threading.TIMEOUT_MAX`)


class CalibrationSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """How a scorer's scale is measured."""

    enabled: bool = Field(True, description="False passes raw scores through; scorers outside [0, 1] are then refused (paper).")
    rows: int = Field(128, ge=8, description="Sampled answers on each side, at most.")
    temperature: float = Field(1.0, gt=0, description="Sampling temperature of the answers on both sides.")
    max_new_tokens: int = Field(64, gt=0, description="Longest sampled answer.")
    noise_floor: float = Field(
        3.0,
        gt=0,
        description="m1 - m0 must exceed this many standard errors of the difference, else bins are pooled. A sampled "
        "answer counts once, however many of its prefixes are in a bin.",
    )


class GuardSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """The wall around scorer calls: what is forgiven, and how long one may take."""

    slow_warning: float = Field(
        30.0,
        ge=0,
        le=LONGEST,
        description="Seconds after which a call that still runs is reported, again at twice, four times, ...; 0: never.",
    )
    time_limit: float | None = Field(
        None,
        gt=0,
        le=LONGEST,
        description="Seconds after which a call is ended as an error; null: none. Ends Python code in the main thread; code "
        "that never returns to Python is only reported.",
    )
    on_nonfinite: Literal["raise", "mask"] = Field(
        "raise", description="A score that is NaN or infinite ends the run, or takes the median of the call's finite scores."
    )
    most_masked: float = Field(
        0.1, ge=0, lt=1, description="Largest share of a call's scores that is masked; more of them end the run all the same."
    )
