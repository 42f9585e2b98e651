"""The anchored term and the distillation on retain rows, without PPO: `anchored`.

The engine with `ppo.policy_weight: 0` under a name of its own; see `deattrib.ppo.anchored`. What PPO adds is the
difference between `dareu` and this. A step is `ppo.epochs` updates, as many as there.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from deattrib.ppo.search import ANCHORED
from deattrib.ppo.settings import PPOSettings
from deattrib.ppo.unlearner import Unlearner


class Anchored(Unlearner):
    """The anchored term alone: likelihood down to its counterfactual level, no rollouts."""

    name = "anchored"
    rewarded = False
    search = ANCHORED

    class Params(BaseModel):
        """Weights of the anchored term; null follows `ppo.anchor`."""

        model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

        hinge: float | None = Field(None, ge=0, description="Weight of the hinge.")
        kl: float | None = Field(None, ge=0, description="Weight of the KL from the counterfactual distribution.")

    @classmethod
    def settle(cls, settings: PPOSettings, params: Any) -> PPOSettings:
        anchor = settings.anchor.model_copy(update=params.model_dump(exclude_none=True))
        return settings.model_copy(update={"policy_weight": 0.0, "refresh": "batch", "anchor": anchor})
