"""What a run was made with, and whether it is still the same: versions, seeds, fingerprints, differences."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deattrib.errors import RunError

SCHEMA = 1
LIBRARIES = ("torch", "transformers", "peft", "trl", "pluggy", "pydantic", "numpy", "safetensors")

# Folders of an absolute path (or one from the home folder), up to its last part; not those of an address such as https://.
_FOLDERS = re.compile(r"(?<![\w.:/~\-])(?:~[\w\-]*)?/(?:[^/\s,;=\[\]{}'\"]+/)*(?=[^/\s,;=\[\]{}'\"])")


def build_manifest(
    *, seeds: Mapping[str, int], fingerprints: Mapping[str, Any], arguments: Sequence[str] = ()
) -> dict[str, Any]:
    """The contents of a new run's `manifest.json`.

    Args:
        seeds: name -> seed.
        fingerprints: what must not change before a resume: content hashes of corpus and config, plugins with versions.
        arguments: the command line; absolute paths are cut to their last part, so that a shared run folder tells nothing
            about the machine.
    """
    return {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": library_versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "seeds": dict(seeds),
        "fingerprints": dict(fingerprints),
        "arguments": [_FOLDERS.sub("", argument) for argument in arguments],
    }


def library_versions() -> dict[str, str | None]:
    """deattrib's and its libraries' versions, without importing them; None for what is not installed."""
    result: dict[str, str | None] = {}
    for name in ("deattrib", *LIBRARIES):
        try:
            result[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            result[name] = None
    return result


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(dotted path, old value, new value) of everything that differs, in the order of `old`, then what only `new` has."""
    return list(_differences(old, new, ""))


def check_same(old: Mapping[str, Any], new: Mapping[str, Any], *, what: str = "settings") -> None:
    """Refuses to go on with a run under other settings than it was started with.

    Args:
        old: from the run folder.
        new: what is asked for now.
        what: the plural word for the message: "settings", "fingerprints", "versions".

    Raises:
        RunError: shows every difference as `path: old -> new`.
    """
    if found := differences(old, new):
        lines = "".join(f"\n  {path}: {before} -> {after}" for path, before, after in found)
        raise RunError(
            f"The run was started with other {what}, so it cannot be resumed:{lines}\n"
            "Resume with what it was started with, or start a new run with --output."
        )


_NOTHING = object()


def _differences(old: object, new: object, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping) and (old or new):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key, _NOTHING), new.get(key, _NOTHING), f"{path}.{key}" if path else str(key))
    elif isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(before, after, f"{path}[{index}]")
    elif not _same(old, new):
        yield path, _shown(old), _shown(new)


def _same(old: object, new: object) -> bool:
    if isinstance(old, bool) != isinstance(new, bool):
        return False  # True == 1 in Python, not in a settings file
    if isinstance(old, float) and isinstance(new, float) and math.isnan(old) and math.isnan(new):
        return True
    return old == new


def _shown(value: object) -> str:
    if value is _NOTHING:
        return "(not set)"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
