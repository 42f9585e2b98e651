"""From a run folder to its `report.html`, replaced in one rename.

Only `metrics.json` must be there: what else is missing or unreadable is said on the page instead of failing a finished run.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from deattrib.errors import ConfigError, RunError
from deattrib.report.figures import mapping
from deattrib.report.page import render
from deattrib.yaml_file import parse_yaml


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error}. Check the folder's permissions, then write the report again.") from error


def _json(path: Path, problems: list[str]) -> Mapping[str, object]:
    text = _read(path)
    if text is None:
        problems.append(f"{path.name} is not in the run folder")
        return {}
    try:
        return mapping(json.loads(text))
    except (ValueError, RecursionError) as error:
        problems.append(f"{path.name} is not readable JSON: {error}")
        return {}


def _events(path: Path, problems: list[str]) -> list[Mapping[str, object]]:
    found: list[Mapping[str, object]] = []
    bad = 0
    for line in (_read(path) or "").split("\n"):
        if line.strip():
            try:
                found.append(mapping(json.loads(line)))
            except (ValueError, RecursionError):
                bad += 1
    if bad:
        problems.append(f"{path.name}: {bad} unreadable line(s) left out (a killed run can leave half a line)")
    if not found:
        problems.append(f"{path.name} is missing or has no events")
    return found


def _config(path: Path, problems: list[str]) -> Mapping[str, object]:
    text = _read(path)
    try:
        return parse_yaml(text, source=path.name) if text is not None else {}
    except ConfigError as error:
        problems.append(f"{path.name} is not readable YAML: {error}")
        return {}


def write_report(run_folder: Path) -> Path:
    """Write `report.html` into `run_folder` (atomically, an older page is replaced) and return its path.

    Raises `RunError` where `metrics.json` is missing or unreadable; other missing files become warnings on the page.
    """
    folder = Path(run_folder)
    problems: list[str] = []
    metrics = _json(folder / "metrics.json", problems)
    if not metrics:
        raise RunError(
            f"no report for {folder}: {problems[0] if problems else 'metrics.json holds no figures'}. "
            "A report needs a run whose evaluation has finished: run it, or resume it, then write the report again."
        )
    events = _events(folder / "events.jsonl", problems)
    answers = _json(folder / "answers.json", problems)
    config = _config(folder / "config.yaml", problems)
    manifest = _json(folder / "manifest.json", problems)
    attacks = _json(folder / "attacks.json", problems) if (folder / "attacks.json").exists() else {}
    noted = [*events, *({"kind": "warning", "message": problem} for problem in problems)]
    page = render(metrics, noted, answers, config, manifest, attacks)
    target = folder / "report.html"
    staged = folder / f".tmp-report-{os.getpid()}.html"
    try:
        with staged.open("w", encoding="utf-8", newline="\n") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(target)
    except OSError as error:
        raise RunError(
            f"Cannot write {target}: {error.strerror or error}. Free some space there, or check who may write."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)
    return target
