"""The tables of the page: cells as they are written, best and second marked.

Only entries that contend are marked, and only where two or more do. Closer to the oracle is better wherever the figure is
a part of the score; what is no part of it is judged by its own aim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from deattrib.compare.score import ATTACKS, GROUPS, PARTS
from deattrib.report.figures import MINUS, NOTHING, Unit, mapping, plain, show
from deattrib.report.labels import LABELS
from deattrib.report.text import visible

Mark = Literal["", "best", "second"]
SAME = 5e-4
SHARED = ("original", "oracle", "oracle_second")
NAMES = {"original": "original", "oracle": "oracle", "oracle_second": "second oracle"}


@dataclass(frozen=True, slots=True)
class Cell:
    """Median, range over seeds ("" where all seeds have the same), mark."""

    text: str
    spread: str = ""
    mark: Mark = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """A figure of the main table. `worth`: how good an entry is at it, higher is better; None: it carries no mark."""

    title: str
    about: str
    unit: Unit
    find: Callable[[Mapping[str, Any]], Mapping[str, float] | None]
    worth: Callable[[Mapping[str, Any], Mapping[str, Any]], float | None] | None


def _median(raw: object) -> float | None:
    return mapping(raw).get("median")  # type: ignore[return-value]


def _figure(key: str) -> Callable[[Mapping[str, Any]], Mapping[str, float] | None]:
    return lambda entry: entry["figures"].get(key)


def _to_oracle(key: str) -> Callable[[Mapping[str, Any], Mapping[str, Any]], float | None]:
    def worth(entry: Mapping[str, Any], content: Mapping[str, Any]) -> float | None:
        mine, oracle = _median(entry["figures"].get(key)), content["references"]["oracle"]
        there = _median(oracle["figures"].get(key)) if oracle else None
        return None if mine is None or there is None else -abs(mine - there)

    return worth


def _columns() -> list[Heading]:
    found = [
        Heading("score", "Geometric mean of the parts; 1 is the oracle.", "score", lambda e: e.get("score"),
               lambda e, _: _median(e["score"])),
    ]  # fmt: skip
    for group in GROUPS:
        about = "The score over " + ", ".join(part.label for part in PARTS if part.group == group) + "."
        found.append(
            Heading(group, about, "score", lambda e, g=group: e["groups"][g], lambda e, _, g=group: _median(e["groups"][g]))  # type: ignore[misc]
        )
    for part in PARTS:
        unit: Unit = "number" if part.key == "oracle_perplexity" else "score"
        find, about = _figure(part.key), "Closer to the oracle’s is better."
        if part.key == ATTACKS:  # many figures in as many units: what is shown is how close they are
            find, about = (lambda e: e["closeness"].get(ATTACKS)), "Closeness over all attacks: their geometric mean."
        found.append(
            Heading(part.label, about, unit, find, lambda e, _, k=part.key: _median(e["closeness"].get(k)))  # type: ignore[misc]
        )
    collapsed = "utility under 0.9 × the oracle’s (the original’s if that is lower) or more than 5 % gibberish is a collapse."
    for key, unit, about, worth in (
        ("extraction_strength", "score", "Closer to the oracle’s is better; no part of the score.",
         _to_oracle("extraction_strength")),
        ("tow", "score", "Higher is better; no part of the score.", lambda e, _: _median(e["figures"].get("tow"))),
        ("model_utility", "score", f"Model utility; {collapsed}", None),
        ("gibberish_rate", "share", f"Share of answers that are no language; {collapsed}", None),
    ):  # fmt: skip
        found.append(Heading(LABELS[key], about, unit, _figure(key), worth))
    found.append(
        Heading("loop, seconds", "Wall time of the unlearning loop alone.", "number", lambda e: e.get("seconds"), None)
    )
    return found


COLUMNS = _columns()


def main_table(content: Mapping[str, Any]) -> tuple[list[Heading], list[tuple[str, str, list[Cell]]]]:
    """(columns that have anything, rows of (name, kind, cells)); kind: the reference's name, "entry" or "out"."""
    entries = content["entries"]
    holders = [(NAMES[name], name, content["references"][name]) for name in SHARED if content["references"][name]]
    holders += [(entry["name"], "entry" if entry["contends"] else "out", entry) for entry in entries]
    columns = [column for column in COLUMNS if any(_median(column.find(holder)) is not None for _, _, holder in holders)]
    marks = [_marks(column, entries, content) for column in columns]
    rows = []
    for name, kind, holder in holders:
        cells = [
            cell(column.find(holder), column.unit, mark.get(name, "") if kind == "entry" else "")
            for column, mark in zip(columns, marks, strict=True)
        ]
        rows.append((visible(name, 80), kind, cells))
    return columns, rows


def cell(found: Mapping[str, float] | None, unit: Unit, mark: Mark = "") -> Cell:
    """A median with its range, written out."""
    if not found:
        return Cell(NOTHING)
    low, high = (_short(found[end], unit) for end in ("low", "high"))
    varies = show(found["low"], unit) != show(found["high"], unit)
    return Cell(show(found["median"], unit), f"{low}–{high}" if varies else "", mark)


def _short(value: float, unit: Unit) -> str:
    """An end of a range: one digit less than the median has, so that the columns stay narrow."""
    return f"{value:.2f}".replace("-", MINUS) if unit == "score" else show(value, unit)


def _marks(column: Heading, entries: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> dict[str, Mark]:
    if column.worth is None:
        return {}
    worth = {entry["name"]: column.worth(entry, content) for entry in entries if entry["contends"]}
    there = [value for value in worth.values() if value is not None]
    values = sorted(set(there), reverse=True)
    if len(there) < 2:
        return {}
    best = values[0]
    lower = [value for value in values if value < best - SAME]
    marks: dict[str, Mark] = {}
    for name, value in worth.items():
        if value is not None and value >= best - SAME:
            marks[name] = "best"
        elif value is not None and lower and value >= lower[0] - SAME:
            marks[name] = "second"
    return marks if len(lower) or len(marks) < len(worth) else {}  # all alike: nobody is best


def difference(raw: Mapping[str, float] | None) -> str:
    """A difference of scores with its interval."""
    if not raw:
        return NOTHING
    value, low, high = (_signed(raw[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", MINUS)


def other_figures(content: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """(names, rows of (figure, cells)) of every figure that no table above has."""
    shown = {part.key for part in PARTS} | {"extraction_strength", "tow", "model_utility", "gibberish_rate"}
    holders = [(NAMES[name], content["references"][name]) for name in SHARED if content["references"][name]]
    holders += [(entry["name"], entry) for entry in content["entries"] if entry["figures"]]
    keys = dict.fromkeys(key for _, holder in holders for key in holder["figures"])
    wanted = [key for key in keys if key not in shown and not key.startswith("attribution by ")]
    rows = []
    for key in wanted:
        medians = [_median(holder["figures"].get(key)) for _, holder in holders]
        rows.append((visible(key, 60), [NOTHING if value is None else plain(round(value, 4)) for value in medians]))
    return [visible(name, 60) for name, _ in holders], rows


def attribution_table(content: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """(scorers, rows of (model or entry, cells)): attribution of the answers by every scorer that was asked."""
    prefix = "attribution by "
    holders = [(NAMES[name], content["references"][name]) for name in SHARED if content["references"][name]]
    holders += [(entry["name"], entry) for entry in content["entries"] if entry["figures"]]
    keys = dict.fromkeys(key for _, holder in holders for key in holder["figures"] if key.startswith(prefix))
    rows = [(visible(name, 80), [cell(holder["figures"].get(key), "score") for key in keys]) for name, holder in holders]
    return [visible(key.removeprefix(prefix), 60) for key in keys], rows if keys else []
