"""The picture at the top: one horizontal track from 0 to 1 per measure, with the three models on it.

Marks are told apart by shape first: a bar is the original, a ring the oracle, a disc the unlearned model, and they nest, so
that a disc in its ring on its bar still shows all three. Positions are percentages of the drawing's width, hence the marks
keep their size on a phone and no text is inside the drawing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from deattrib.report.figures import figure as number
from deattrib.report.figures import mapping, sequence, show
from deattrib.report.measures import BY_KEY, Measure
from deattrib.report.series import along
from deattrib.report.verdict import Verdict, judge, value

FORGET = ("fact_recall", "attribution", "forget_rouge", "extraction_strength")
KEEP = ("retain_rouge", "retain_paraphrase_rouge", "world_rouge", "model_utility")
HEIGHT = 30
EACH = 3
ALWAYS = "ks_distance"
"""Shown whatever else is: the strictest look at what was to be forgotten, and the first to be missed."""


@dataclass(frozen=True, slots=True)
class Track:
    """One measure: its drawing, its three figures written out, its verdict."""

    measure: Measure
    drawing: Markup
    original: str
    unlearned: str
    oracle: str
    verdict: Verdict


def draw(
    measure: Measure,
    original: float | None,
    oracle: float | None,
    unlearned: float | None,
    low: float | None,
    high: float | None,
) -> Markup:
    """The inline SVG of one track; figures outside [0, 1] sit at the end of it, missing ones are left out."""
    middle = HEIGHT // 2
    unit = measure.unit
    said = f"{measure.label}: original {show(original, unit)}, unlearned {show(unlearned, unit)}, oracle {show(oracle, unit)}"
    parts = [
        Markup('<svg class="track" width="100%" height="{}" role="img" aria-label="{}">').format(HEIGHT, said),
        Markup('<line class="rail" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(middle),
    ]
    for tick in ("0", "50%", "100%"):
        parts.append(Markup('<line class="tick" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(tick, middle - 4, middle + 4))
    if original is not None and unlearned is not None:
        parts.append(
            Markup('<line class="trail" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                along(original), along(unlearned), middle, middle
            )
        )
    if low is not None and high is not None:
        parts.append(
            Markup('<line class="interval" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(along(low), along(high), middle, middle)
        )
    if original is not None:
        parts.append(
            Markup('<line class="original" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
                along(original), middle - 11, middle + 11
            )
        )
    if oracle is not None:
        parts.append(Markup('<circle class="oracle" cx="{}" cy="{}" r="8.5"/>').format(along(oracle), middle))
    if unlearned is not None:
        parts.append(Markup('<circle class="unlearned" cx="{}" cy="{}" r="5"/>').format(along(unlearned), middle))
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def glyph(row: str) -> Markup:
    """The mark of one model as a small icon: for legends, table heads and answers. Decorative: a word stands beside it."""
    inner = {
        "original": '<line class="original" x1="10" x2="10" y1="1" y2="19"/>',
        "unlearned": '<circle class="unlearned" cx="10" cy="10" r="5"/>',
        "oracle": '<circle class="oracle" cx="10" cy="10" r="7.5"/>',
        "oracle_second": '<circle class="oracle second" cx="10" cy="10" r="7.5"/>',
    }[row]
    return Markup('<svg class="glyph" width="20" height="20" viewBox="0 0 20 20" aria-hidden="true">' + inner + "</svg>")


def _track(key: str, rows: Mapping[str, object]) -> Track:
    measure = BY_KEY[key]
    original, oracle, unlearned = (value(rows, row, key) for row in ("original", "oracle", "unlearned"))
    bounds = sequence(mapping(mapping(rows.get("unlearned")).get("intervals")).get(key))
    low, high = (number(bounds[0]), number(bounds[1])) if len(bounds) == 2 else (None, None)
    drawing = draw(measure, original, oracle, unlearned, low, high)
    unit = measure.unit
    return Track(measure, drawing, show(original, unit), show(unlearned, unit), show(oracle, unit), judge(measure, rows))


def tracks(rows: Mapping[str, object]) -> tuple[list[Track], list[Track]]:
    """(tracks of what should go, tracks of what should stay): the first three of each that the unlearned model has.

    The distance behind forget quality comes after the first three, so that no row of ticks hides it.
    """
    chosen = [[key for key in keys if value(rows, "unlearned", key) is not None][:EACH] for keys in (FORGET, KEEP)]
    chosen[0] += [ALWAYS] if value(rows, "unlearned", ALWAYS) is not None else []
    return [_track(key, rows) for key in chosen[0]], [_track(key, rows) for key in chosen[1]]
