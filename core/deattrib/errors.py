"""Every error that deattrib raises on purpose, the warning of what is to go, and the "did you mean" that goes with names.

One rule for all errors: the message says what is wrong, where (file, line, row, owner, plugin and version),
what was expected, and what to do next.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable


class DeattribError(Exception):
    """Base class: catch this to catch everything deattrib raises on purpose."""


class ConfigError(DeattribError):
    """A setting is missing, misspelt or contradicts another one."""


class CorpusError(DeattribError):
    """A corpus file or an owner list cannot be used; the message names file, line and column where there is one."""


class ModelError(DeattribError):
    """A model or tokenizer cannot be loaded or does not fit the rest of the run."""


class PluginError(DeattribError):
    """A plugin cannot be found, loaded or accepted; the message names distribution and version."""


class ScorerError(DeattribError):
    """A scorer returned something unusable or touched what is not its own.

    Attributes:
        refusal: whether a scorer says knowingly what it cannot do. False where the wall around scorers found a crash or a
            fault, and stays False through every further wall, around a scorer that wraps the one at fault.
    """

    refusal = True


class MetricError(DeattribError):
    """A metric returned something unusable, or cannot be computed on these models; the message names metric and column."""


class CalibrationError(DeattribError):
    """A scorer cannot tell the owner's answers from others' well enough to be a reward; the message has the figures."""


class RunError(DeattribError):
    """A run folder cannot be created, resumed or read."""


def deprecated(old: str, new: str, gone_in: str) -> None:
    """Warn, at the first line outside of deattrib, that `old` goes in version `gone_in`, `new` is to be used (docs/api.md)."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "deattrib":
        frame, level = frame.f_back, level + 1
    warnings.warn(f"deattrib: {old} goes in version {gone_in}; use {new}.", DeprecationWarning, stacklevel=level)


def first_line(error: BaseException) -> str:
    """What an error says, without the rest of a long story."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """The end of an error message about an unknown name.

    Returns " Did you mean 'x'?" where something is close, else " Known: a, b, c." (at most 20 names), else "".
    """
    options = sorted(set(options))
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.6)
    if close:
        return " Did you mean " + " or ".join(f"'{shown(item, most=256)}'" for item in close) + "?"
    if options:
        more = "" if len(options) <= 20 else f" and {len(options) - 20} more"
        return f" Known: {', '.join(map(shown, options[:20]))}{more}."
    return ""


def shown(name: str, *, most: int = 80) -> str:
    """A stranger's name for a message: as it is where it can be read, else escaped; cut in the middle where it is long."""
    text = name if name.isprintable() else repr(name)[1:-1]
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) :]}"
