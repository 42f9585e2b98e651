"""Signs that the training goes wrong, read from the figures of each step; nothing here is drawn or changed.

What is looked for: figures that are not finite, a KL that blows up, an entropy that collapses, answers that are all empty,
and the signs of a hacked reward: it rises while answers get much shorter or longer, all alike, or repeat themselves. A sign
must last `patience` steps, is told once, and belongs to the state of the run: a resumed run tells the same at the same step.
Gibberish that is neither repetitive nor far from the reference shows only at the end (`gibberish_rate`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deattrib.ppo.settings import HealthSettings

COMPARED = ("reward", "length", "distinct", "repetition")


@dataclass(frozen=True, slots=True)
class Fault:
    """A sign that lasted: which one, from which step it is told, and what it says in words."""

    name: str
    step: int
    message: str


def repetition(responses: Sequence[Sequence[int]]) -> float:
    """Mean share of pairs of neighbouring tokens that came before in the same response, in [0, 1]."""
    shares = []
    for ids in responses:
        pairs = list(itertools.pairwise(ids))
        shares.append(1 - len(set(pairs)) / len(pairs) if pairs else 0.0)
    return sum(shares) / max(len(shares), 1)


class Health:
    """Looks at one step after another."""

    def __init__(self, settings: HealthSettings) -> None:
        self.settings = settings
        self.running: dict[str, int] = {}  # sign -> steps in a row
        self.told: list[str] = []
        self.first: list[dict[str, float]] = []  # the first `window` steps with rollouts, what is compared with
        self.last: list[dict[str, float]] = []  # the last `window` ones

    def look(self, step: int, figures: Mapping[str, float], responses: Sequence[Sequence[int]] | None) -> tuple[Fault, ...]:
        """The faults that are new in this step.

        Args:
            step: from 1.
            figures: of the step.
            responses: token ids of the rollout; None where there was none.
        """
        if responses is not None:
            self._remember({**figures, "repetition": repetition(responses)})
        found = dict(self._signs(figures))
        self.running = {name: self.running.get(name, 0) + 1 for name in found}
        new = [name for name in found if self.running[name] >= self.settings.patience and name not in self.told]
        self.told += new
        return tuple(Fault(name, step, f"step {step}: {found[name]}") for name in new)

    def _remember(self, figures: Mapping[str, float]) -> None:
        values = {name: float(figures[name]) for name in COMPARED if name in figures}
        if len(self.first) < self.settings.window:
            self.first.append(values)
        self.last = [*self.last, values][-self.settings.window :]

    def _signs(self, figures: Mapping[str, float]) -> Iterator[tuple[str, str]]:
        settings = self.settings
        broken = [name for name, value in figures.items() if not math.isfinite(value)]
        if broken or "skipped_updates" in figures:
            skipped = f", {figures['skipped_updates']:g} updates left out" if "skipped_updates" in figures else ""
            yield "nonfinite", f"loss, gradient or figures are not finite ({', '.join(broken) or 'gradient'}){skipped}"
        kl, entropy, empty = (figures.get(name, math.nan) for name in ("kl", "entropy", "empty"))
        if settings.kl is not None and kl > settings.kl:
            yield "kl", f"the KL to the reference is {kl:.3g} nats per token, over ppo.health.kl = {settings.kl:g}"
        if settings.entropy is not None and entropy < settings.entropy:
            yield "entropy", f"the entropy is {entropy:.3g} nats per token, under ppo.health.entropy = {settings.entropy:g}"
        if settings.empty is not None and empty >= settings.empty:
            yield "empty", f"{empty:.0%} of the answers are empty (ppo.health.empty = {settings.empty:g})"
        yield from self._hacking()

    def _hacking(self) -> Iterator[tuple[str, str]]:
        """Reward up, and answers of another kind than in the first steps."""
        window, settings = self.settings.window, self.settings
        if settings.gain is None or len(self.last) < window or self.last == self.first:
            return
        begun, now = _mean(self.first), _mean(self.last)
        gained = now["reward"] - begun["reward"]
        if not gained > settings.gain:
            return
        rose = f"while the reward rose by {gained:.2f}: a sign that the scorer is gamed"
        for name, noun in (("length", "the answers' length"), ("distinct", "the share of different answers")):
            ratio = now[name] / begun[name] if begun[name] > 0 else 1.0
            if ratio < settings.shrink or (name == "length" and ratio > 1 / settings.shrink):
                yield name, f"{noun} went from {begun[name]:.3g} to {now[name]:.3g} {rose}"
        if now["repetition"] - begun["repetition"] > settings.repetition:
            yield "repetition", f"repetition went from {begun['repetition']:.2f} to {now['repetition']:.2f} {rose}"

    # -- state ---------------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        return {"running": dict(self.running), "told": list(self.told), "first": list(self.first), "last": list(self.last)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.running, self.told = dict(state["running"]), list(state["told"])
        self.first, self.last = list(state["first"]), list(state["last"])


def _mean(window: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(step[name] for step in window) / len(window) for name in COMPARED}
