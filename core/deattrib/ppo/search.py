"""What `deattrib tune` may try: ranges of settings, declared on a method's class. No torch here.

    class Mine(Method):
        search = {"beta": Span(0.01, 1.0)}

A name without a dot is one of the method's own `Params`, one with a dot a setting of the run ("ppo.retain.weight"). Learning
rate and steps are searched for every method (its `pace`), relative to the config's, since what they should be depends on
the model and not on the method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deattrib.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Span:
    """A range of numbers.

    Attributes:
        low, high: ends, both possible; with `relative` as multiples of the config's own value.
        scale: how [0, 1] is spread over it; "log" needs low > 0.
        whole: rounded to whole numbers, at least 1.
        relative: the config's own value is 1.

    Raises:
        ConfigError: `low` is not below `high`, or not above 0 on a "log" scale.
    """

    low: float
    high: float
    scale: Literal["log", "linear"] = "log"
    whole: bool = False
    relative: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.scale == "log" and self.low <= 0):
            raise ConfigError(f"A range from {self.low} to {self.high} cannot be searched on a {self.scale} scale.")

    def at(self, share: float, own: float | None = None) -> float | int:
        """The value at `share` in [0, 1] of the range. Raises ConfigError where it is relative to `own` and that is None."""
        if self.scale == "log":
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        if self.relative:
            if own is None:
                raise ConfigError("A relative range needs a number in the config to be relative to.")
            value *= own
        return max(1, round(value)) if self.whole else float(f"{value:.3g}")  # three digits: readable, and enough


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def at(self, share: float, own: float | None = None) -> Any:
        """The value at `share` of the list, share in [0, 1]."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


SearchSpace = Mapping[str, Span | Choice]
PACE: SearchSpace = {
    "ppo.learning_rate": Span(0.03, 3.5, relative=True),  # the paper's search for its baselines ends at 3.3 times its own rate
    "ppo.steps": Span(0.5, 4.0, whole=True, relative=True),
}
ANCHORED: SearchSpace = {
    "ppo.retain.weight": Span(0.25, 2.0, relative=True),
    "ppo.anchor.hinge": Span(0.25, 2.0, relative=True),
    "ppo.anchor.kl": Span(0.25, 2.0, relative=True),
}
"""Of the engine with and without rollouts alike: tuned, they differ by what PPO adds and not by what was tuned."""
