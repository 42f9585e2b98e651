"""What came of the attacks: one panel per attack with the curves of all models in it, and the figures below.

Only the distance to the oracle says anything, so no panel has one model alone. Lines are told apart by their dashes and by
the mark at their end (a bar, a ring, a disc, as everywhere on the page), not by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from deattrib.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, path, tick_text
from deattrib.report.figures import figure, mapping, plain, seconds, sequence, show
from deattrib.report.series import Point, bounds, ticks
from deattrib.report.text import visible

MODELS = ("original", "oracle_second", "oracle", "unlearned")
LABELS = {"original": "Original", "unlearned": "Unlearned", "oracle": "Oracle", "oracle_second": "Oracle 2"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One model's figure: the model's key, its name, the number, its interval, why it is missing."""

    model: str
    label: str
    text: str
    interval: str
    error: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One attack."""

    name: str
    what: str
    source: str
    seconds: str
    x: str
    unit: str
    cells: list[Cell]
    drawings: list[tuple[str, Markup]]
    more: list[tuple[str, list[str]]]


def attack_rows(rows: Mapping[str, object], later: Mapping[str, object]) -> dict[str, dict[str, Mapping[str, object]]]:
    """model -> attack -> entry, of a run's metrics and of attacks.json, which wins: it was made afterwards."""
    found: dict[str, dict[str, Mapping[str, object]]] = {}
    for model in LABELS:
        of_run = mapping(mapping(rows.get(model)).get("attacks"))
        entries = {**of_run, **mapping(mapping(later.get("rows")).get(model))}
        if entries:
            found[model] = {str(name): mapping(entry) for name, entry in entries.items()}
    return found


def panels(rows: Mapping[str, object], later: Mapping[str, object]) -> list[Panel]:
    """One panel per attack, in the order of the files. Unknown and broken entries are left out, never an error."""
    found = attack_rows(rows, later)
    names = dict.fromkeys(name for entries in found.values() for name in entries)
    return [_panel(name, {model: entries[name] for model, entries in found.items() if name in entries}) for name in names]


def _panel(name: str, entries: Mapping[str, Mapping[str, object]]) -> Panel:
    first = entries.get("unlearned") or next(iter(entries.values()))
    spent = [number for entry in entries.values() if (number := figure(entry.get("seconds"))) is not None]
    x = visible(first.get("x") or "", 60)
    unit = visible(first.get("unit") or "", 60)
    drawings = []
    main = {model: points for model, entry in entries.items() if (points := _points(entry.get("curve")))}
    if main:
        drawings.append((unit, draw(f"{name}: {unit}", main, x)))
    for title in dict.fromkeys(str(key) for entry in entries.values() for key in mapping(entry.get("curves"))):
        lines = {m: points for m, entry in entries.items() if (points := _points(mapping(entry.get("curves")).get(title)))}
        if lines:
            drawings.append((visible(title, 60), draw(f"{name}: {visible(title, 60)}", lines, x)))
    return Panel(
        visible(name, 80),
        visible(first.get("what") or "", 400),
        visible(first.get("source") or "", 200),
        seconds(sum(spent)),
        x,
        unit,
        [_cell(model, entries[model]) for model in LABELS if model in entries],
        drawings,
        _more(entries),
    )


def _cell(model: str, entry: Mapping[str, object]) -> Cell:
    ends = [figure(end) for end in sequence(entry.get("interval"))]
    known = len(ends) == 2 and None not in ends
    interval = " … ".join(show(end, "score") for end in ends) if known else ""
    return Cell(
        model, LABELS[model], show(figure(entry.get("figure")), "score"), interval, visible(entry.get("error") or "", 400)
    )


def _more(entries: Mapping[str, Mapping[str, object]]) -> list[tuple[str, list[str]]]:
    keys = dict.fromkeys(key for entry in entries.values() for key in mapping(entry.get("more")))
    return [
        (visible(key, 60), [show(figure(mapping(entries[m].get("more")).get(key)), "score") for m in LABELS if m in entries])
        for key in keys
    ]


def _points(raw: object) -> list[Point]:
    """Pairs of numbers by rising x; what is not one is left out."""
    pairs = [tuple(figure(number) for number in sequence(pair)) for pair in sequence(raw)]
    return sorted((pair[0], pair[1]) for pair in pairs if len(pair) == 2 and pair[0] is not None and pair[1] is not None)


def draw(label: str, lines: Mapping[str, Sequence[Point]], x_label: str) -> Markup:
    """The curves of several models over the same x, whose places are evenly spaced: steps and samples double."""
    places = sorted({x for points in lines.values() for x, _ in points})
    values = [y for points in lines.values() for _, y in points]
    low, high = (0.0, 1.0) if min(values) >= 0 and max(values) <= 1 else bounds(values)
    width = WIDTH - LEFT - RIGHT

    def at(x: float) -> float:
        return LEFT + (width / 2 if len(places) == 1 else 8 + (width - 16) * places.index(x) / (len(places) - 1))

    def y_of(number: float) -> float:
        return HEIGHT - BOTTOM - (number - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    said = [f"{LABELS[model]} from {plain(points[0][1])} to {plain(points[-1][1])}" for model, points in lines.items()]
    parts = [
        Markup('<svg class="curve attack" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            WIDTH, HEIGHT, f"{label} over {x_label}: {'; '.join(said)}"
        )
    ]
    for tick in ticks(low, high):
        height = f"{y_of(tick):.1f}"
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, height, height))
        parts.append(
            Markup('<text class="axis end" x="{}" y="{:.1f}">{}</text>').format(LEFT - 6, y_of(tick) + 4, tick_text(tick))
        )
    for place in places:
        parts.append(
            Markup('<text class="axis middle" x="{:.1f}" y="{}">{}</text>').format(at(place), HEIGHT - 7, tick_text(place))
        )
    for model in [name for name in MODELS if name in lines]:
        spots = [(at(x), y_of(y)) for x, y in lines[model]]
        parts.append(Markup('<path class="of-{}" d="{}"/>').format(model, path(spots)))
        parts.append(_mark(model, *spots[-1]))
    return Markup("").join([*parts, Markup("</svg>")])


def _mark(model: str, x: float, y: float) -> Markup:
    """The model's mark at the end of its line."""
    if model == "original":
        return Markup('<line class="original" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>').format(x, y - 6, y + 6)
    kind, radius = {"oracle": ("oracle", 5), "oracle_second": ("oracle second", 5)}.get(model, ("unlearned", 3))
    return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(kind, x, y, radius)
