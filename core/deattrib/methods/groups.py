"""The engine with trl's other two ways to advantages: `rloo` and `grpo`.

Attribution of the whole answer is the reward, the other answers to the same prompt are the baseline, and there is no value
function.

- `rloo`: the reward minus the mean of the others' (Ahmadian et al. 2024, arXiv 2402.14740, section 3.2);
- `grpo`: minus the mean of all of them, over their standard deviation (Shao et al. 2024, arXiv 2402.03300, section 4.1.2).

Everything else is `dareu`'s: distillation, anchored term, reference, checkpoints. `deattrib.trl` has the scorers as
rewards of trl's own trainers, which know none of these.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, Field

from deattrib.errors import ConfigError
from deattrib.ppo.settings import PPOSettings
from deattrib.ppo.unlearner import Unlearner


class LeaveOneOut(Unlearner):
    """Reward minus the mean reward of the other answers to the prompt (Ahmadian et al. 2024)."""

    name = "rloo"
    whitened: ClassVar[bool] = True  # trl's `normalize_advantages`: without it the reward's spread is the term's weight

    class Params(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
        """Size of a group."""

        samples: int = Field(4, ge=2, description="Answers per prompt; divides `ppo.batch_size`.")

    @classmethod
    def settle(cls, settings: PPOSettings, params: Any) -> PPOSettings:
        if settings.batch_size % params.samples:
            raise ConfigError(
                f"Method {cls.name!r}: ppo.batch_size {settings.batch_size} is not a multiple of samples {params.samples}."
            )
        return settings.model_copy(
            update={
                "estimator": cls.name,
                "whiten": cls.whitened,
                "rollout": settings.rollout.model_copy(update={"samples": params.samples}),
                "reward": settings.reward.model_copy(update={"granularity": "sequence"}),
            }
        )


class GroupRelative(LeaveOneOut):
    """Reward minus the mean of the prompt's answers, in their standard deviations (GRPO; Shao et al. 2024)."""

    name = "grpo"
    whitened = False
