"""Reading numbers out of parsed JSON and writing them for people.

The page is made from files that other versions, plugins or hands may have written, so nothing here trusts a type:
what is not a finite number is simply not a number, and shows as an en dash. A share that is not exactly 0 or 1 is never
rounded to "0 %" or "100 %": in a report on forgetting that last fraction is the news.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

Unit = Literal["share", "score", "p", "number"]
"""share: [0, 1] shown in per cent; score: [0, 1] shown as a decimal; p: a probability, may be tiny; number: anything else."""

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
THIN = "\N{NARROW NO-BREAK SPACE}"


def figure(value: object) -> float | None:
    """`value` as a float, or None where it is null, a truth value, text, NaN or infinite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def mapping(value: object) -> Mapping[str, object]:
    """`value` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[object]:
    """`value` if it is a list or tuple, else an empty one."""
    return value if isinstance(value, (list, tuple)) else ()


def percent(value: float) -> str:
    """A share in per cent: "97 %", "0.4 %", "<0.1 %", ">99.9 %"; 0 and 100 only where exact (to 1e-9)."""
    scaled = 100 * value
    if 1e-9 < abs(scaled) < 0.05:
        return f"<0.1{THIN}%"
    if 99.95 < scaled < 100 - 1e-9:
        return f">99.9{THIN}%"
    digits = 0 if abs(scaled - round(scaled)) < 0.05 else 1
    return f"{scaled:.{digits}f}{THIN}%".replace("-", MINUS)


def plain(value: float) -> str:
    """About three significant digits, no trailing zeros, exponents only where nothing else fits."""
    size = abs(value)
    if value == round(value) and size < 1e6:
        text = f"{value:.0f}"
    elif size >= 1e6 or size < 1e-3:
        text = f"{value:.1e}"
    elif size >= 100:
        text = f"{value:.0f}"
    else:
        text = f"{value:.{2 if size < 10 else 1}f}" if size >= 1 else f"{value:.3f}".rstrip("0")
    return text.replace("-", MINUS)


def show(value: float | None, unit: Unit) -> str:
    """`value` in its unit; an en dash where there is none."""
    if value is None:
        return NOTHING
    if unit == "share":
        return percent(value)
    if unit == "score":
        return f"{value:.3f}".replace("-", MINUS)
    if unit == "p":
        return f"{value:.3f}" if value >= 0.001 or value == 0 else f"{value:.0e}".replace("-", MINUS)
    return plain(value)


def show_margin(size: float, unit: Unit) -> str:
    """How far apart two figures are, without a sign: "0.02", "1.5 pt" (percentage points for shares)."""
    return f"{100 * size:.1f}{THIN}pt" if unit == "share" else f"{size:.3f}" if unit in ("score", "p") else plain(size)


def show_gap(gap: float, unit: Unit) -> str:
    """A signed difference: "+0.02", "−1.5 pt" (percentage points for shares), "±0" where it vanishes in print."""
    text = show_margin(abs(gap), unit)
    if not any(character in "123456789" for character in text):
        return "±0"
    return ("+" if gap > 0 else MINUS) + text


def seconds(value: float) -> str:
    """A duration: "0.4 s", "42 s", "3 min 05 s", "2 h 10 min"."""
    if value < 10:
        return f"{value:.1f}{THIN}s"
    whole = round(value)
    if whole < 120:
        return f"{whole}{THIN}s"
    if whole < 7200:
        return f"{whole // 60}{THIN}min {whole % 60:02d}{THIN}s"
    return f"{whole // 3600}{THIN}h {whole % 3600 // 60:02d}{THIN}min"
