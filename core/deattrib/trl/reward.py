"""A scorer as a reward function of trl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.scorer import Rows
from deattrib.errors import ConfigError, did_you_mean
from deattrib.models.batch import TokenBatch
from deattrib.trl.original import context_of, watch_original
from deattrib.trl.prompts import question, text_of


class RewardFunction:
    """Minus the attribution of each completion to its row's owner, for `reward_funcs` of `GRPOTrainer` and `RLOOTrainer`.

    The data set has the columns `prompt` (text as the model is asked, template included, or a conversation; see
    `prompt_dataset`) and `owner`. Rows without an owner, and rows of owners that are not to be forgotten, get None: trl
    leaves them to the other reward functions, or out.

    Args:
        attributor: fitted.
        owner_column: where the owner stands.
        retained: reward rows of the other owners too, which makes the model forget these as well.

    Raises:
        ConfigError: (when called) the column is missing, an owner is unknown, a prompt is not as the attributor's scale was
            measured, or the attributor's original model is the one in training.
    """

    def __init__(self, attributor: Attributor, *, owner_column: str = "owner", retained: bool = False) -> None:
        self.attributor, self.owner_column, self.retained = attributor, owner_column, retained
        self.context = context_of(attributor)
        self.__name__ = f"attribution_{attributor.name}"  # what trl calls it in its log
        self._unchanged = watch_original(self.context)

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> list[float | None]:
        """One number in [-1, 0] or None per completion; what trl calls."""
        if self.owner_column not in columns:
            raise ConfigError(
                f"The data set has no column {self.owner_column!r} to say whose data a prompt asks about."
                f"{did_you_mean(self.owner_column, columns)} Set RewardFunction(owner_column=...)."
            )
        self._unchanged()
        owners = [str(owner) if owner is not None else "" for owner in columns[self.owner_column]]
        chosen = [index for index, owner in enumerate(owners) if self._counts(owner)]
        rewards: list[float | None] = [None] * len(owners)
        if not chosen:
            return rewards
        codec = self.context.codec
        asked = [question(codec, prompts[index]) for index in chosen]
        answers = [
            list(completion_ids[index]) if completion_ids is not None else codec.response(text_of(completions[index]))
            for index in chosen
        ]
        batch = TokenBatch.from_lists([ids for _, ids in asked], answers, codec.pad_id)
        rows = Rows.from_tokens(codec, [text for text, _ in asked], batch, [owners[index] for index in chosen])
        for index, value in zip(chosen, self.attributor.attribution(rows).tolist(), strict=True):
            rewards[index] = -value
        return rewards

    def _counts(self, owner: str) -> bool:
        if owner and owner not in self.context.owners:
            raise ConfigError(f"Owner {owner!r} is not in the corpus.{did_you_mean(owner, self.context.owners)}")
        return bool(owner) and (self.retained or owner in self.context.forget_owners)
