"""Judging one measure: how far the unlearned model is from the oracle, and whether that is near enough.

The limits are the project's own published targets, two-sided where the aim is the oracle: going past it (answers *less*
alike than those of a model that never knew) is a miss as well. They are stated on the page next to the verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from deattrib.report.figures import MINUS, figure, mapping, sequence, show_gap
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
    """`gap`: unlearned minus oracle, written out ("" where unknown); `rule`: the limit in words."""

    state: State
    gap: str
    rule: str

    @property
    def symbol(self) -> str:
        return WORDS[self.state][0]

    @property
    def word(self) -> str:
        return WORDS[self.state][1]


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


def judge(measure: Measure, rows: Mapping[str, object]) -> Verdict:
    """The verdict on the unlearned model for one measure; "none" where a figure that the rule needs is missing."""
    key = measure.key
    mine, original, oracle, second = (value(rows, row, key) for row in ("unlearned", "original", "oracle", "oracle_second"))
    state: State
    if key in ("retain_rouge", "retain_paraphrase_rouge", "world_rouge"):
        good = 0.97 if key == "retain_rouge" else 0.95
        state, rule = _steps(_ratio(mine, original), good, 0.85, higher=True), f"at least {good:g} × the original"
    elif key == "model_utility":
        state, rule = _steps(_ratio(mine, oracle), 0.95, 0.85, higher=True), "at least 0.95 × the oracle"
        if state == "bad" and oracle is not None and upper_end(rows, "unlearned", key) >= 0.95 * oracle:
            state, rule = "part", f"{rule}, which the interval of so few questions does not tell"
    elif key == "tow":
        state, rule = _steps(mine, 0.88, 0.7, higher=True), "at least 0.88"
    elif key == "ks_distance":
        over = None if mine is None or second is None else mine - second
        state, rule = _steps(over, 0.2, 0.4, higher=False), "at most 0.2 above the second oracle's"
    elif key in ("gibberish_rate", "empty_rate"):
        allowed = 0.02 if key == "gibberish_rate" else 0.0
        over = None if mine is None or oracle is None else mine - oracle
        rule = "at most 2 points above the oracle" if allowed else "no more than the oracle"
        state = _steps(over, allowed, 0.05, higher=False)
    elif key == "distinct_answer_rate":
        state, rule = _steps(_ratio(mine, oracle), 0.9, 0.75, higher=True), "at least 0.9 × the oracle"
    elif key == "mean_length":
        ratio = _ratio(mine, oracle)
        state, rule = _steps(None if ratio is None else abs(ratio - 1), 0.2, 0.4, higher=False), "within 20 % of the oracle"
    elif key == "oracle_perplexity":
        state, rule = _steps(mine, 5.0, 10.0, higher=False), "at most 5"
    elif measure.aim == "oracle":
        state, rule = _toward(rows, key), f"within ±{NEAR:g} × (original {MINUS} oracle)"
    else:
        state, rule = "none", "no limit"
    gap = "" if mine is None or oracle is None else show_gap(mine - oracle, measure.unit)
    return Verdict(state, gap, rule)
