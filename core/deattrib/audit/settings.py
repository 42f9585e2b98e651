"""Settings of an audit. Loads no torch."""

from __future__ import annotations

from pydantic import BaseModel, Field


class AuditSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """How much is retrained and how many responses are looked at."""

    owners: int = Field(4, ge=1, description="Owners that are left out one at a time, forget owners first.")
    seeds: int = Field(3, ge=1, description="Retrainings per left-out owner; exact attribution is their mean.")
    rows: int = Field(8, ge=1, description="Responses per owner and kind, at most.")
    subsets: int = Field(0, ge=0, description="Random halves of all owners for the linear datamodelling score; 0: none.")
    subset_seeds: int = Field(2, ge=1, description="Retrainings per half; one gives no noise ceiling.")
    max_minutes: float = Field(60.0, ge=0, description="Refuse where retraining is estimated to take longer.")
    bootstrap: int = Field(500, ge=20, description="Resamples per interval.")
    seed: int = Field(0, ge=0, description="Of sampling, halves and bootstrap; added to the run's own.")
