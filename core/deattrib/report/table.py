"""The table: one line per measure, one column per model, the gap to the oracle at its end.

Measures are the lines and models the columns, not the other way round: four columns fit a phone, eighteen do not, and each
measure keeps its unit, its intervals and its verdict on one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deattrib.report.figures import Unit, figure, mapping, sequence, show
from deattrib.report.measures import DIRECTIONS, GROUPS, MEASURES, Aim, Group, Measure
from deattrib.report.more_measures import FOLDED, FOLDED_GROUPS, PLACED
from deattrib.report.text import visible
from deattrib.report.verdict import Verdict, judge

COLUMNS = (
    ("original", "Original", "before unlearning"),
    ("unlearned", "Unlearned", "this run"),
    ("oracle", "Oracle", "retrained without them"),
    ("oracle_second", "Oracle 2", "other seed: the noise"),
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
    """`groups` are shown, `folded` behind a click each, `more` is what has no place of its own."""

    columns: list[tuple[str, str, str]]
    groups: list[tuple[str, list[Line]]]
    folded: list[tuple[str, list[Line]]]
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


_AIMS: dict[object, Aim] = {"oracle": "oracle", "higher": "up", "lower": "down"}
_UNITS: dict[object, Unit] = {"share": "share", "score": "score", "p": "p"}
_SCORERS = "Attribution by other scorers"


def _more(rows: Mapping[str, object], columns: list[tuple[str, str, str]], metrics: Mapping[str, object]) -> list[Line]:
    """Figures without a place of their own; what a metric said of its columns is said here, too."""
    told = {
        str(mapping(column).get("key")): mapping(column)
        for entry in metrics.values()
        for column in sequence(mapping(entry).get("columns"))
    }
    keys: dict[str, None] = {}
    for name, _, _ in columns:
        model = mapping(rows.get(name))
        keys.update((key, None) for key in model if key not in PLACED and figure(model[key]) is not None)
    lines = []
    for key in sorted(keys):
        said = told.get(key, {})
        unit = _UNITS.get(said.get("unit"), "number")
        aim = _AIMS.get(said.get("direction"))
        definition = visible(said.get("what") or "", 300)
        if aim is not None:
            lines.append(_line(Measure(key, visible(key, 80), definition, aim, unit, "signs"), rows, columns))
            continue
        cells = [Cell(show(figure(mapping(rows.get(name)).get(key)), unit), "") for name, _, _ in columns]
        lines.append(Line(visible(key, 80), definition, "", "", cells, Verdict("none", "", "")))
    return lines


def _by_scorers(rows: Mapping[str, object], columns: list[tuple[str, str, str]], scorers: Mapping[str, object]) -> list[Line]:
    """One line per scorer that attributed beside the referee; the reward's own is marked."""
    flat = {
        name: {f"attributions.{key}": value for key, value in mapping(mapping(rows.get(name)).get("attributions")).items()}
        | {"intervals": mapping(rows.get(name)).get("intervals")}
        for name, _, _ in columns
    }
    lines = []
    for key in dict.fromkeys(key for row in flat.values() for key in row if key != "intervals"):
        scorer = key.removeprefix("attributions.")
        own = mapping(scorers.get(scorer)).get("reward") is True
        what = (
            "the reward's own scorer: no evidence by itself where training optimised it"
            if own
            else "a scorer that nothing in the run optimised"
        )
        measure = Measure(
            key,
            visible(scorer, 80) + (" (reward’s own)" if own else ""),
            f"Calibrated attribution of the answers to the forget prompts; {what}.",
            "oracle",
            "score",
            "scorers",
        )
        lines.append(_line(measure, flat, columns))
    return lines


def table(
    rows: Mapping[str, object],
    metrics: Mapping[str, object] | None = None,
    scorers: Mapping[str, object] | None = None,
) -> Table:
    """Lines without any figure are left out; the second oracle's column only where it was made.

    Args:
        metrics: what `metrics.json` says of metrics and their columns.
        scorers: what it says of scorers that attributed beside the referee.
    """
    columns = [column for column in COLUMNS if column[0] != "oracle_second" or mapping(rows.get("oracle_second"))]
    groups = _grouped(GROUPS, MEASURES, rows, columns)
    folded = _grouped(FOLDED_GROUPS, FOLDED, rows, columns)
    by_scorers = _by_scorers(rows, columns, scorers or {})
    if by_scorers:
        folded.insert(0, (_SCORERS, by_scorers))
    return Table(columns, groups, folded, _more(rows, columns, metrics or {}))


def _grouped(
    titles: Sequence[tuple[Group, str]],
    measures: Sequence[Measure],
    rows: Mapping[str, object],
    columns: list[tuple[str, str, str]],
) -> list[tuple[str, list[Line]]]:
    groups = []
    for group, title in titles:
        lines = [
            _line(measure, rows, columns)
            for measure in measures
            if measure.group == group
            and any(figure(mapping(rows.get(name)).get(measure.key)) is not None for name, _, _ in columns)
        ]
        if lines:
            groups.append((title, lines))
    return groups
