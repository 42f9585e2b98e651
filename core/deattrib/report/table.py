"""The table: one line per measure, one column per model, the gap to the oracle at its end.

Measures are the lines and models the columns, not the other way round: four columns fit a phone, eighteen do not, and each
measure keeps its unit, its intervals and its verdict on one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deattrib.report.figures import figure, mapping, sequence, show
from deattrib.report.measures import BY_KEY, DIRECTIONS, GROUPS, MEASURES, Measure
from deattrib.report.text import visible
from deattrib.report.verdict import Verdict, judge

COLUMNS = (
    ("original", "Original", "before unlearning"),
    ("unlearned", "Unlearned", "this run"),
    ("oracle", "Oracle", "retrained without them"),
    ("oracle_second", "2nd oracle", "other seed: the noise"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    interval: str


@dataclass(frozen=True, slots=True)
class Line:
    label: str
    definition: str
    arrow: str
    direction: str
    cells: list[Cell]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Table:
    columns: list[tuple[str, str, str]]
    groups: list[tuple[str, list[Line]]]
    more: list[Line]


def _interval(row: Mapping[str, object], measure: Measure) -> str:
    ends = [figure(end) for end in sequence(mapping(row.get("intervals")).get(measure.key))]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return ""
    return f"{show(ends[0], measure.unit)} … {show(ends[1], measure.unit)}"


def _line(measure: Measure, rows: Mapping[str, object], columns: list[tuple[str, str, str]]) -> Line:
    models = [mapping(rows.get(name)) for name, _, _ in columns]
    cells = [Cell(show(figure(model.get(measure.key)), measure.unit), _interval(model, measure)) for model in models]
    arrow, direction = DIRECTIONS[measure.aim]
    return Line(measure.label, measure.definition, arrow, direction, cells, judge(measure, rows))


def _more(rows: Mapping[str, object], columns: list[tuple[str, str, str]]) -> list[Line]:
    keys: dict[str, None] = {}
    for name, _, _ in columns:
        model = mapping(rows.get(name))
        keys.update((key, None) for key in model if key not in BY_KEY and figure(model[key]) is not None)
    lines = []
    for key in sorted(keys):
        cells = [Cell(show(figure(mapping(rows.get(name)).get(key)), "number"), "") for name, _, _ in columns]
        lines.append(Line(visible(key, 80), "", "", "", cells, Verdict("none", "", "")))
    return lines


def table(rows: Mapping[str, object]) -> Table:
    """Lines without any figure are left out; the second oracle's column only where it was made."""
    columns = [column for column in COLUMNS if column[0] != "oracle_second" or mapping(rows.get("oracle_second"))]
    groups = []
    for group, title in GROUPS:
        lines = [
            _line(measure, rows, columns)
            for measure in MEASURES
            if measure.group == group
            and any(figure(mapping(rows.get(name)).get(measure.key)) is not None for name, _, _ in columns)
        ]
        if lines:
            groups.append((title, lines))
    return Table(columns, groups, _more(rows, columns))
