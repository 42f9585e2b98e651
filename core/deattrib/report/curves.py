"""Learning curves as small multiples: one inline SVG per figure of the `step` events, all with the same width of steps.

Every step is drawn faintly and a centred moving mean over them firmly (from 24 steps on; the width is a tenth of the run), so
neither the trend nor the noise is hidden. Long runs are thinned to the lowest and highest step of each bucket: peaks stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from deattrib.report.figures import MINUS, figure, plain
from deattrib.report.series import Point, bounds, series, smooth, thin, ticks
from deattrib.report.text import visible

WIDTH, HEIGHT = 320, 152
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 12, 24
SMOOTH_FROM = 24
MOST_EXTRA = 24

# key: (label, what it is, fixed range or None)
KNOWN: dict[str, tuple[str, str, tuple[float, float] | None]] = {
    "reward": ("Reward", "mean reward per rollout", None),
    "attribution": ("Attribution", "of sampled answers, by the reward’s scorer", (0.0, 1.0)),
    "kl": ("KL", "to the reference, per token", None),
    "length": ("Length", "of sampled answers, in tokens", None),
    "entropy": ("Entropy", "of the next token, in nats", None),
    "policy_loss": ("Policy loss", "clipped surrogate", None),
    "value_loss": ("Value loss", "critic", None),
    "retain_loss": ("Retain loss", "distillation to the original model", None),
    "anchor_hinge": ("Anchor, hinge", "owner’s text above its counterfactual level", None),
    "anchor_kl": ("Anchor, KL", "to the counterfactual model", None),
    "clip_fraction": ("Clip fraction", "share of tokens that were clipped", None),
}
MAIN = ("reward", "attribution", "kl", "length")


@dataclass(frozen=True, slots=True)
class Curve:
    """One panel: the drawing, and the same in words for its caption."""

    key: str
    label: str
    about: str
    last: str
    drawing: Markup


@dataclass(frozen=True, slots=True)
class Curves:
    main: list[Curve]
    losses: list[Curve]
    extra: list[Curve]
    steps: int


def tick_text(number: float) -> str:
    return f"{number:.4g}".replace("-", MINUS)


def path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def draw(
    label: str,
    points: Sequence[Point],
    steps: tuple[float, float],
    *,
    fixed: tuple[float, float] | None = None,
    level: tuple[str, float] | None = None,
    stop: float | None = None,
) -> Markup:
    """One panel. `steps`: first and last step of the run; `level`: a named horizontal line; `stop`: step of an early stop."""
    values = [number for _, number in points]
    low, high = fixed if fixed and fixed[0] <= min(values) and max(values) <= fixed[1] else bounds(values)
    first, last = steps if steps[1] > steps[0] else (steps[0] - 0.5, steps[0] + 0.5)

    def x(step: float) -> float:
        return LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(number: float) -> float:
        return HEIGHT - BOTTOM - (number - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    said = f"{label} over {len(points)} steps: from {plain(values[0])} to {plain(values[-1])}"
    said += f", lowest {plain(min(values))}, highest {plain(max(values))}"
    parts = [Markup('<svg class="curve" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, said)]
    for tick in ticks(low, high):
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, y(tick), y(tick))
        )
        parts.append(
            Markup('<text class="axis end" x="{}" y="{:.1f}">{}</text>').format(LEFT - 6, y(tick) + 4, tick_text(tick))
        )
    shown = [tick for tick in ticks(steps[0], steps[1], 5) if tick == round(tick)] or [steps[0]]
    for tick in shown:
        parts.append(
            Markup('<text class="axis middle" x="{:.1f}" y="{}">{}</text>').format(x(tick), HEIGHT - 7, tick_text(tick))
        )
    parts.append(Markup('<text class="axis end" x="{}" y="{}">step</text>').format(LEFT - 6, HEIGHT - 7))
    parts.append(
        Markup('<line class="base" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM
        )
    )
    if level is not None and low <= level[1] <= high:
        height = y(level[1])
        parts.append(
            Markup('<line class="level" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, height, height)
        )
        above = height - 5 if height > TOP + 14 else height + 13
        parts.append(Markup('<text class="axis end" x="{}" y="{:.1f}">{}</text>').format(WIDTH - RIGHT, above, level[0]))
    if stop is not None and first <= stop <= last:
        parts.append(
            Markup('<line class="stop" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(x(stop), TOP, HEIGHT - BOTTOM)
        )
    smoothed = len(points) >= SMOOTH_FROM
    raw = path((x(step), y(number)) for step, number in thin(points))
    parts.append(Markup('<path class="{}" d="{}"/>').format("raw" if smoothed else "line", raw))
    if smoothed:
        mean = path((x(step), y(number)) for step, number in thin(smooth(points)))
        parts.append(Markup('<path class="line" d="{}"/>').format(mean))
    parts.append(Markup('<circle class="end" cx="{:.1f}" cy="{:.1f}" r="2.6"/></svg>').format(x(points[-1][0]), y(values[-1])))
    return Markup("").join(parts)


def curves(events: Sequence[Mapping[str, object]], oracle_attribution: float | None = None) -> Curves:
    """All panels of a run. `oracle_attribution`: the oracle's figure by the reward's scorer, a level in that panel."""
    found = series(events)
    every = [step for points in found.values() for step, _ in points]
    if not every:
        return Curves([], [], [], 0)
    span = (min(every), max(every))
    stop = next((figure(event.get("step")) for event in events if event.get("kind") == "stop"), None)

    def panel(key: str) -> Curve:
        label, about, fixed = KNOWN.get(key, (visible(key, 60), "", None))
        level = ("oracle", oracle_attribution) if key == "attribution" and oracle_attribution is not None else None
        drawing = draw(label, found[key], span, fixed=fixed, level=level, stop=stop)
        return Curve(key, label, about, plain(found[key][-1][1]), drawing)

    return Curves(
        [panel(key) for key in MAIN if key in found],
        [panel(key) for key in KNOWN if key in found and key not in MAIN],
        [panel(key) for key in sorted(found) if key not in KNOWN][:MOST_EXTRA],
        len(set(every)),
    )
