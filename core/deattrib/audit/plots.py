"""Drawings of an audit page as inline SVG: intervals side by side, clouds of points, calibration lines.

Colours come from the page's style sheet, so that light and dark both work; every drawing says in words what it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from deattrib.report.figures import MINUS, figure, plain
from deattrib.report.series import bounds, ticks
from deattrib.report.text import visible

WIDTH, NAME, LINE = 640, 190, 26
SIDE, LEFT, RIGHT, TOP, BOTTOM = 300, 44, 12, 12, 30
MOST_POINTS = 600


def forest(
    said: str, lines: Sequence[tuple[str, Mapping[str, object]]], *, level: float | None = None, most: float = 1.0
) -> Markup:
    """One line per scorer: a disc at its value, a bar for its interval; `level` is the ceiling, drawn dashed.

    Args:
        lines: (name, {"value", "low", "high"}); lines without a value keep their place and stay empty.
    """
    values = [number for _, line in lines for key in ("value", "low") if (number := figure(line.get(key))) is not None]
    low = min([0.0, *values])
    height = TOP + LINE * len(lines) + BOTTOM

    def x(number: float) -> float:
        return NAME + (number - low) / (most - low) * (WIDTH - NAME - RIGHT)

    parts = [Markup('<svg class="curve forest" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, height, said)]
    for tick in ticks(low, most, 5):
        parts.append(
            Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(x(tick), TOP, height - BOTTOM)
        )
        parts.append(
            Markup('<text class="axis middle" x="{:.1f}" y="{}">{}</text>').format(x(tick), height - 12, _number(tick))
        )
    if level is not None and low <= level <= most:
        parts.append(
            Markup('<line class="level" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(x(level), TOP, height - BOTTOM)
        )
    for number, (name, line) in enumerate(lines):
        y = TOP + LINE * (number + 0.5)
        parts.append(Markup('<text class="axis end" x="{}" y="{:.1f}">{}</text>').format(NAME - 12, y + 4, visible(name, 40)))
        ends = figure(line.get("low")), figure(line.get("high"))
        if ends[0] is not None and ends[1] is not None:
            parts.append(
                Markup('<line class="spread" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
                    x(ends[0]), x(ends[1]), y, y
                )
            )
        value = figure(line.get("value"))
        if value is not None:
            parts.append(Markup('<circle class="end" cx="{:.1f}" cy="{:.1f}" r="4.5"/>').format(x(value), y))
    return Markup("").join([*parts, Markup("</svg>")])


def cloud(said: str, points: Sequence[tuple[float, float, str]], *, across: str, up: str) -> Markup:
    """Points (x, y, class), thinned evenly where there are very many."""
    points = points[:: -(-len(points) // MOST_POINTS)] if points else points
    if not points:
        return Markup("")
    scale = _Square(bounds([p[0] for p in points]), bounds([p[1] for p in points]))
    dots = [
        Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(c, scale.x(a), scale.y(b)) for a, b, c in points
    ]
    return Markup("").join([*scale.frame(said, across, up), *dots, Markup("</svg>")])


def line(said: str, points: Sequence[tuple[float, float]], *, across: str, up: str) -> Markup:
    """A line through points of [0, 1] x [0, 1], with the diagonal that it should follow."""
    if not points:
        return Markup("")
    scale = _Square((0.0, 1.0), (0.0, 1.0))
    path = "M" + "L".join(f"{scale.x(a):.1f} {scale.y(b):.1f}" for a, b in points)
    parts = [
        *scale.frame(said, across, up),
        Markup('<line class="level" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
            scale.x(0), scale.y(0), scale.x(1), scale.y(1)
        ),
        Markup('<path class="line" d="{}"/>').format(path),
        *(Markup('<circle class="end" cx="{:.1f}" cy="{:.1f}" r="3.4"/>').format(scale.x(a), scale.y(b)) for a, b in points),
        Markup("</svg>"),
    ]
    return Markup("").join(parts)


class _Square:
    """Axes of a square drawing."""

    def __init__(self, across: tuple[float, float], up: tuple[float, float]) -> None:
        self.across, self.up = across, up

    def x(self, number: float) -> float:
        return LEFT + (number - self.across[0]) / (self.across[1] - self.across[0]) * (SIDE - LEFT - RIGHT)

    def y(self, number: float) -> float:
        return SIDE - BOTTOM - (number - self.up[0]) / (self.up[1] - self.up[0]) * (SIDE - TOP - BOTTOM)

    def frame(self, said: str, across: str, up: str) -> list[Markup]:
        parts = [Markup('<svg class="curve" viewBox="0 0 {0} {0}" role="img" aria-label="{1}">').format(SIDE, said)]
        for tick in ticks(*self.up):
            height = self.y(tick)
            parts.append(
                Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                    LEFT, SIDE - RIGHT, height, height
                )
            )
            parts.append(
                Markup('<text class="axis end" x="{}" y="{:.1f}">{}</text>').format(LEFT - 5, height + 4, _number(tick))
            )
        for tick in ticks(*self.across):
            parts.append(
                Markup('<text class="axis middle" x="{:.1f}" y="{}">{}</text>').format(
                    self.x(tick), SIDE - BOTTOM + 13, _number(tick)
                )
            )
        parts.append(Markup('<text class="axis end" x="{}" y="{}">{}</text>').format(SIDE - RIGHT, SIDE - 3, across))
        parts.append(Markup('<text class="axis" x="{}" y="{}">{}</text>').format(LEFT + 4, TOP + 2, up))
        return parts


def spoken(name: str, measure: Mapping[str, object]) -> str:
    """A value with its interval in words: "classifier: 0.52 (0.41 to 0.6)"."""
    value, low, high = (figure(measure.get(key)) for key in ("value", "low", "high"))
    if value is None:
        return f"{visible(name, 40)}: none"
    interval = f" ({plain(low)} to {plain(high)})" if low is not None and high is not None else ""
    return f"{visible(name, 40)}: {plain(value)}{interval}"


def _number(tick: float) -> str:
    return f"{tick:.4g}".replace("-", MINUS)
