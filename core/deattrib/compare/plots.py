"""Drawings of the comparison as inline SVG: a track per entry, the trade-off, attack curves.

Colours come from the page's style sheet. Entries are told apart by number, never by colour alone; every drawing says in
words what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from deattrib.report.figures import MINUS, plain
from deattrib.report.series import along, bounds, ticks
from deattrib.report.text import visible

TRACK = 28
WIDTH, HEIGHT = 620, 400
PANEL = (320, 220)
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 14, 40
LABEL = 10
Point = tuple[float, float]


def track(said: str, each: Sequence[float], median: float | None, level: float | None, *, contends: bool) -> Markup:
    """0 to 1: a small dot per seed, a disc at the median (hollow for what does not contend), a ring at `level`."""
    middle = TRACK // 2
    parts = [
        Markup('<svg class="track" width="100%" height="{}" role="img" aria-label="{}">').format(TRACK, visible(said)),
        Markup('<line class="rail" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(middle),
    ]
    for tick in ("0", "50%", "100%"):
        parts.append(Markup('<line class="tick" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(tick, middle - 4, middle + 4))
    if each:
        parts.append(
            Markup('<line class="trail" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                along(min(each)), along(max(each)), middle, middle
            )
        )
    parts += [Markup('<circle class="seed" cx="{}" cy="{}" r="2.4"/>').format(along(value), middle) for value in each]
    if level is not None:
        parts.append(Markup('<circle class="oracle second" cx="{}" cy="{}" r="8.5"/>').format(along(level), middle))
    if median is not None:
        kind = "unlearned" if contends else "fallen"
        parts.append(Markup('<circle class="{}" cx="{}" cy="{}" r="5"/>').format(kind, along(median), middle))
    return Markup("").join([*parts, Markup("</svg>")])


class Axes:
    """A frame with round ticks; `x` and `y` place a value in it."""

    def __init__(self, across: Point, up: Point, size: tuple[int, int]) -> None:
        self.across, self.up, (self.width, self.height) = across, up, size

    def x(self, value: float) -> float:
        low, high = self.across
        return LEFT + (value - low) / (high - low) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.up
        return self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM)

    def frame(self, said: str, across: str, up: str) -> list[Markup]:
        head = '<svg class="curve plot" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        parts = [Markup(head).format(self.width, self.height, visible(said))]
        for tick in ticks(*self.up):
            line = '<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>'
            line += '<text class="axis end" x="{3}" y="{4:.1f}">{5}</text>'
            y = self.y(tick)
            parts.append(Markup(line).format(LEFT, self.width - RIGHT, y, LEFT - 6, y + 4, _number(tick)))
        for tick in ticks(*self.across, 5):
            mark = '<text class="axis middle" x="{:.1f}" y="{}">{}</text>'
            parts.append(Markup(mark).format(self.x(tick), self.height - BOTTOM + 15, _number(tick)))
        names = '<text class="axis end" x="{}" y="{}">{}</text><text class="axis" x="{}" y="{}">{}</text>'
        parts.append(Markup(names).format(self.width - RIGHT, self.height - 6, across, LEFT + 4, TOP + 2, up))
        return parts


def trade_off(said: str, entries: Sequence[Mapping[str, Any]], *, wall: float, across: str, up: str) -> Markup:
    """Every seed as a dot tied to its entry's median, which carries the entry's number.

    Args:
        entries: {"number", "points": (x, y) by seed, "median": (x, y), "contends"}.
        wall: x below which an entry has collapsed, drawn dashed where it is inside.
    """
    points = [point for entry in entries for point in entry["points"]]
    if not points:
        return Markup("")
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    axes = Axes((min(low, wall) - 0.02, max(high, 1.0) + 0.02), (0.0, 1.0), (WIDTH, HEIGHT))
    parts = axes.frame(said, across, up)
    line = '<line class="level" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
    parts.append(Markup(line).format(axes.x(wall), TOP, HEIGHT - BOTTOM))
    for entry in entries:
        x, y = axes.x(entry["median"][0]), axes.y(entry["median"][1])
        for point in entry["points"]:
            tie = '<line class="tie" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
            tie += '<circle class="seed" cx="{:.1f}" cy="{:.1f}" r="2.6"/>'
            there = axes.x(point[0]), axes.y(point[1])
            parts.append(Markup(tie).format(x, y, *there, *there))
    middles = [(axes.x(entry["median"][0]), axes.y(entry["median"][1])) for entry in entries]
    spots = apart(middles, axes)
    for middle, spot in zip(middles, spots, strict=True):
        if spot != middle:
            leader = '<line class="leader" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
            leader += '<circle class="middle-of" cx="{:.1f}" cy="{:.1f}" r="3.4"/>'
            parts.append(Markup(leader).format(*middle, *spot, *middle))
    for entry, (x, y) in zip(entries, spots, strict=True):
        badge = '<circle class="badge {0}" cx="{1:.1f}" cy="{2:.1f}" r="9"/>'
        badge += '<text class="number" x="{1:.1f}" y="{3:.1f}">{4}</text>'
        parts.append(Markup(badge).format("contends" if entry["contends"] else "out", x, y, y + 3.6, entry["number"]))
    return Markup("").join([*parts, Markup("</svg>")])


def apart(places: Sequence[Point], axes: Axes) -> list[Point]:
    """Where the badges go: each at its place, or as near to it as no other badge is in the way, within the frame.

    One whose place is lower than that of the badge in its way goes below it where there is room, else above.
    """
    found: list[Point] = []
    for place in places:
        above = [own[1] for own, spot in zip(places, found, strict=False) if math.dist(spot, place) < 19]
        turns = range(13, 2, -1) if above and max(above) < place[1] else range(3, 14)
        tries = [place] + [
            (place[0] + reach * math.cos(turn * math.pi / 8), place[1] - reach * math.sin(turn * math.pi / 8))
            for reach in range(20, 240, 10)
            for turn in turns  # to the left first: most entries keep their utility, at the right edge
        ]
        inside = [(x, y) for x, y in tries if LEFT + 9 < x < axes.width - RIGHT - 9 and TOP < y < axes.height - BOTTOM - 9]
        free = (spot for spot in inside if all(math.dist(spot, other) >= 19 for other in found))
        found.append(next(free, place))
    return found


def curves(said: str, lines: Sequence[tuple[str, str, Sequence[Sequence[float]]]], *, across: str) -> Markup:
    """Lines (label, class, points) on shared axes; a label stands at the end of its line."""
    every = [point for _, _, points in lines for point in points]
    if not every:
        return Markup("")
    x0, x1 = min(point[0] for point in every), max(point[0] for point in every)
    room = 0.2 * (x1 - x0) or 1.0  # for the labels, behind the ends
    axes = Axes((x0, x1 + room), bounds([point[1] for point in every]), PANEL)
    parts = axes.frame(said, across, "")
    ends: list[tuple[float, float, str]] = []
    for label, kind, points in lines:
        path = "M" + "L".join(f"{axes.x(x):.1f} {axes.y(y):.1f}" for x, y in sorted((p[0], p[1]) for p in points))
        last = max(points, key=lambda point: point[0])
        parts.append(Markup('<path class="{}" d="{}"/>').format(kind, path))
        if label:
            ends.append((axes.y(last[1]), axes.x(last[0]), label))
    lowest = float(axes.height - BOTTOM + LABEL)
    for y, x, label in sorted(ends, reverse=True):  # from below, each at its end or just above the one before
        lowest = min(y, lowest - LABEL)
        parts.append(Markup('<text class="axis" x="{:.1f}" y="{:.1f}">{}</text>').format(x + 5, lowest + 4, visible(label, 40)))
    return Markup("").join([*parts, Markup("</svg>")])


def _number(value: float) -> str:
    return plain(value) if abs(value) < 1e4 else f"{value:.0e}".replace("-", MINUS)
