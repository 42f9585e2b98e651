"""Judging one measure: how far the unlearned model is from the oracle, and whether that is near enough.

The limits are the project's own published targets, two-sided where the aim is the oracle: going past it (answers *less*
alike than those of a model that never knew) is a miss as well. They are stated on the page next to the verdicts, worked out
for the run at hand. They are limits on a distance and no tests: "reached" does not look at intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from deattrib.report.figures import MINUS, Unit, figure, mapping, sequence, show, show_gap, show_margin
from deattrib.report.measures import Measure

State = Literal["good", "part", "bad", "none"]

NEAR = 0.15
"""Share of the way between original and oracle that may be left (or overshot) for "good"."""
HALF = 0.5
"""The same for "part"."""
FLOOR = 0.05
"""Original and oracle closer than this: there was nothing to move, shares of the way mean nothing."""

WORDS: dict[State, tuple[str, str]] = {
    "good": ("✓", "reached"),
    "part": ("≈", "in part"),
    "bad": ("✗", "missed"),
    "none": ("", ""),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`gap`: unlearned minus oracle, written out ("" where unknown); `rule`: the limit of "reached" in words.

    `limit` is that limit worked out, "" without a verdict: "±0.071" of the gap, or "≥ 0.967", "≤ 0.250" of the figure itself.
    """

    state: State
    gap: str
    rule: str
    limit: str = ""

    @property
    def symbol(self) -> str:
        return WORDS[self.state][0]

    @property
    def word(self) -> str:
        return WORDS[self.state][1]

    @property
    def distance(self) -> str:
        """The gap beside its limit, or the limit alone where it is one of the figure; "" without a verdict."""
        said = f"limit {self.limit}" if self.limit else ""
        return f"gap {self.gap}, {said}" if said and self.gap and self.limit.startswith("±") else said


LIMITS = (
    f"✓ reached: within the limit beside it, mostly ±{NEAR:g} × (original {MINUS} oracle) around the oracle; ≈ in part: within "
    f"a wider one, mostly ±{HALF:g} ×. These limit a distance and are no tests: intervals can lie apart from the oracle’s all "
    "the same."
)
"""The rule in one line, for where the verdicts stand."""


def value(rows: Mapping[str, object], row: str, key: str) -> float | None:
    """The figure `key` of model `row` ("original", "oracle", "oracle_second", "unlearned"), or None."""
    return figure(mapping(rows.get(row)).get(key))


def upper_end(rows: Mapping[str, object], row: str, key: str) -> float:
    """Where the interval of a figure ends, minus infinity without one."""
    bounds = [figure(bound) for bound in sequence(mapping(mapping(rows.get(row)).get("intervals")).get(key))]
    return bounds[1] if len(bounds) == 2 and bounds[1] is not None else -math.inf


def share_left(rows: Mapping[str, object], key: str) -> float | None:
    """(unlearned − oracle) / (original − oracle): 1 = unchanged, 0 = at the oracle, negative = past it.

    None where a figure is missing or original and oracle differ by less than `FLOOR`.
    """
    original, oracle, unlearned = (value(rows, row, key) for row in ("original", "oracle", "unlearned"))
    if original is None or oracle is None or unlearned is None or abs(original - oracle) < FLOOR:
        return None
    return (unlearned - oracle) / (original - oracle)


def _steps(measured: float | None, good: float, part: float, *, higher: bool) -> State:
    if measured is None:
        return "none"
    slack = 1e-9 if higher else -1e-9
    if higher:
        return "good" if measured >= good - slack else "part" if measured >= part - slack else "bad"
    return "good" if measured <= good - slack else "part" if measured <= part - slack else "bad"


def _ratio(top: float | None, bottom: float | None) -> float | None:
    return top / bottom if top is not None and bottom else None


def _toward(rows: Mapping[str, object], key: str) -> State:
    left = share_left(rows, key)
    return _steps(None if left is None else abs(left), NEAR, HALF, higher=False)


def _at(sign: str, factor: float, base: float | None, unit: Unit) -> str:
    """A limit of `factor` × `base` in the figure's own unit; "±" is one of the gap."""
    if base is None:
        return ""
    return sign + show_margin(factor * abs(base), unit) if sign == "±" else f"{sign} {show(factor * base, unit)}"


def _plus(oracle: float | None, more: float) -> float | None:
    return None if oracle is None else oracle + more


def judge(measure: Measure, rows: Mapping[str, object]) -> Verdict:
    """The verdict on the unlearned model for one measure; "none" where a figure that the rule needs is missing."""
    key, unit = measure.key, measure.unit
    mine, original, oracle, second = (value(rows, row, key) for row in ("unlearned", "original", "oracle", "oracle_second"))
    state: State
    limit = ""
    if key in ("retain_rouge", "retain_paraphrase_rouge", "world_rouge"):
        good = 0.97 if key == "retain_rouge" else 0.95
        state, rule = _steps(_ratio(mine, original), good, 0.85, higher=True), f"at least {good:g} × the original"
        limit = _at("≥", good, original, unit)
    elif key == "model_utility":
        state, rule = _steps(_ratio(mine, oracle), 0.95, 0.85, higher=True), "at least 0.95 × the oracle"
        limit = _at("≥", 0.95, oracle, unit)
        if state == "bad" and oracle is not None and upper_end(rows, "unlearned", key) >= 0.95 * oracle:
            state, rule = "part", f"{rule}, which the interval of so few questions does not tell"
    elif key == "tow":
        state, rule, limit = _steps(mine, 0.88, 0.7, higher=True), "at least 0.88", _at("≥", 1, 0.88, unit)
    elif key == "ks_distance":
        over = None if mine is None or second is None else mine - second
        state, rule = _steps(over, 0.2, 0.4, higher=False), "at most 0.2 above the second oracle's"
        limit = _at("≤", 1, _plus(second, 0.2), unit)
    elif key in ("gibberish_rate", "empty_rate"):
        allowed = 0.02 if key == "gibberish_rate" else 0.0
        over = None if mine is None or oracle is None else mine - oracle
        rule = "at most 2 points above the oracle" if allowed else "no more than the oracle"
        state, limit = _steps(over, allowed, 0.05, higher=False), _at("≤", 1, _plus(oracle, allowed), unit)
    elif key == "distinct_answer_rate":
        state, rule = _steps(_ratio(mine, oracle), 0.9, 0.75, higher=True), "at least 0.9 × the oracle"
        limit = _at("≥", 0.9, oracle, unit)
    elif key == "mean_length":
        ratio = _ratio(mine, oracle)
        state, rule = _steps(None if ratio is None else abs(ratio - 1), 0.2, 0.4, higher=False), "within 20 % of the oracle"
        limit = _at("±", 0.2, oracle, unit)
    elif key == "oracle_perplexity":
        state, rule, limit = _steps(mine, 5.0, 10.0, higher=False), "at most 5", _at("≤", 1, 5.0, unit)
    elif measure.aim == "oracle":
        state, rule = _toward(rows, key), f"within ±{NEAR:g} × (original {MINUS} oracle)"
        limit = _at("±", NEAR, None if original is None or oracle is None else original - oracle, unit)
    else:
        state, rule = "none", "no limit"
    gap = "" if mine is None or oracle is None else show_gap(mine - oracle, unit)
    return Verdict(state, gap, rule, "" if state == "none" else limit)
