"""From runs to what the comparison says: compare.json, which the page, the tables and other programs are made from.

Medians and ranges are over seeds. The score is over the parts that every run has; what some runs have and others lack is
said under "warnings". Collapsed entries (in half of their seeds or more), ceilings (rewards that retrain) and entries that
have results on fewer seeds than another are listed and never contend.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from deattrib.compare.folders import ENGINE, ComparedRun, by_entry
from deattrib.compare.resampling import resampled
from deattrib.compare.score import (
    ATTACKS,
    GROUPS,
    PARTS,
    attack_figure,
    closenesses,
    collapse,
    kept_utility,
    score,
    score_of_group,
)
from deattrib.compare.settings import mixtures, settings_of
from deattrib.evaluation.arrays import Array
from deattrib.evaluation.intervals import percentile_interval
from deattrib.report.figures import figure, mapping, sequence
from deattrib.report.headline import is_ceiling

SCHEMA = 1
SAMPLES = 1000
LEVEL = 0.95
REFERENCES = ("original", "oracle", "oracle_second")


def build_content(name: str, runs: Sequence[ComparedRun], *, beside: Path, samples: int = SAMPLES) -> dict[str, Any]:
    """Everything that is said about some runs.

    Args:
        name: of the comparison.
        runs: finished and failed ones.
        beside: the folder that the page will be in: links are relative to it.
        samples: draws of the bootstrap.

    Returns:
        JSON-ready; docs/comparing.md describes it.
    """
    finished = [run for run in runs if run.metrics is not None]
    over, warnings = shared_parts(finished)
    groups = by_entry(runs)
    most = max((len(_seeds(group)) for group in groups.values()), default=0)
    entries = [_entry(title, group, over, beside, most) for title, group in groups.items()]
    base = next((entry for entry in entries if entry["method"] == ENGINE and not entry["variant"]), None)
    draws = {
        title: resampled([run for run in group if run.metrics is not None], over, samples=samples)
        for title, group in groups.items()
        if over and all(score(closenesses(run.rows), over) is not None for run in group if run.metrics is not None)
        and any(run.metrics is not None for run in group)
    }  # fmt: skip
    entries.sort(key=_rank)
    _add_intervals(entries, draws)
    leader = next((entry for entry in entries if entry["contends"] and entry["score"]), None)
    variants = [entry for entry in entries if entry["variant"] and entry["method"] == ENGINE]
    for entry in entries:
        entry["behind"] = _difference(entry, leader, draws)
        entry["against_base"] = _difference(entry, base, draws) if entry in variants else None
    return {
        "schema": SCHEMA,
        "name": name,
        "seeds": sorted({run.label.seed for run in runs}),
        "corpus": mapping(finished[0].metrics).get("corpus") if finished else None,
        "parts": over,
        "level": LEVEL,
        "samples": samples,
        "leader": leader["name"] if leader else None,
        "base": base["name"] if base and variants else None,
        "entries": entries,
        "references": {row: _reference(row, finished, over) for row in REFERENCES},
        "settings": settings_of(groups),
        "versions": _versions(finished),
        "warnings": [*warnings, *_disagreements(finished), *_version_warnings(finished), *mixtures(groups)],
    }


def shared_parts(runs: Sequence[ComparedRun]) -> tuple[list[str], list[str]]:
    """(parts of the score that all runs have, what to warn of)."""
    each = [set(found) for run in runs if (found := closenesses(run.rows))]
    if not each:
        return [], [
            "There is no score: it needs an original, an oracle and an unlearned model in the same run."
        ] if runs else []
    names = {_attacks_with_figures(run) for run in runs}
    shared = set.intersection(*each) - ({ATTACKS} if len(names) > 1 else set())
    lost = [part.label for part in PARTS if part.key in set.union(*each) - shared]
    warnings = [f"Not in the score, since not every run has the same: {', '.join(lost)}."] if lost else []
    if len(each) < len(runs):
        warnings.append(f"{len(runs) - len(each)} runs have no oracle and no score.")
    return [part.key for part in PARTS if part.key in shared], warnings


def _attacks_with_figures(run: ComparedRun) -> frozenset[str]:
    """Attacks that count: an attack that failed on a model that is compared is as good as not made, and not the same."""
    names = mapping(mapping(run.rows.get("unlearned")).get(ATTACKS))
    rows = ("unlearned", "original", "oracle")
    return frozenset(name for name in names if all(attack_figure(run.rows, row, name) is not None for row in rows))


def spread(values: Collection[float | None]) -> dict[str, float] | None:
    """Median, smallest and largest of what is there."""
    there = [value for value in values if value is not None]
    return {"median": statistics.median(there), "low": min(there), "high": max(there)} if there else None


def figures_of(row: object) -> dict[str, float]:
    """Every number of a row of metrics.json; attacks as "attack NAME", attributions as "attribution by NAME"."""
    found = {str(key): number for key, raw in mapping(row).items() if (number := figure(raw)) is not None}
    for name, raw in mapping(mapping(row).get("attacks")).items():
        if (number := figure(mapping(raw).get("figure"))) is not None:
            found[f"attack {name}"] = number
    for name, raw in mapping(mapping(row).get("attributions")).items():
        if (number := figure(raw)) is not None:
            found[f"attribution by {name}"] = number
    return found


def _seeds(runs: Sequence[ComparedRun]) -> set[int]:
    return {run.label.seed for run in runs if run.metrics is not None}


def _entry(name: str, runs: Sequence[ComparedRun], over: Collection[str], beside: Path, most: int) -> dict[str, Any]:
    finished = [run for run in runs if run.metrics is not None]
    label = runs[0].label
    each = [_run(run, over, beside) for run in runs]
    done = [one for one in each if not one["error"]]
    fallen = [one["collapsed"] for one in done if one["collapsed"]]
    ceiling = any(is_ceiling(mapping(run.metrics)) for run in finished)
    collapsed = 2 * len(fallen) >= len(done) > 0
    seeds = len(_seeds(runs))
    return {
        "name": name,
        "method": label.method,
        "reward": label.reward,
        "variant": label.variant,
        "runs": each,
        "figures": _spreads([figures_of(run.rows.get("unlearned")) for run in finished]),
        "attack_curves": _curves(finished),
        "seconds": spread([one["seconds"] for one in done]),
        "score": spread([one["score"] for one in done]),
        "closeness": _spreads([one["closeness"] for one in done]),
        "groups": {group: spread([one["groups"][group] for one in done]) for group in GROUPS},
        "facts": all(run.figures is not None for run in finished),
        "collapsed": f"{len(fallen)} of {len(done)} seeds: {'; '.join(fallen[0])}" if fallen else "",
        "ceiling": ceiling,
        "incomplete": f"results on {seeds} of {most} seeds" if seeds < most else "",
        "contends": bool(done) and not collapsed and not ceiling and seeds == most,
    }


def _run(run: ComparedRun, over: Collection[str], beside: Path) -> dict[str, Any]:
    parts = closenesses(run.rows)
    page = run.folder / "report.html" if run.folder else None
    return {
        "run": run.name,
        "seed": run.label.seed,
        "page": os.path.relpath(page, beside) if page and page.is_file() else None,
        "score": score(parts, over),
        "closeness": parts,
        "groups": {group: score_of_group(parts, over, group) for group in GROUPS},
        "utility": kept_utility(run.rows),
        "collapsed": collapse(run.rows),
        "seconds": figure(mapping(mapping(run.metrics).get("seconds")).get("unlearn")),
        "error": run.error if run.metrics is None else "",
    }


def _rank(entry: Mapping[str, Any]) -> tuple[int, float]:
    place = 0 if entry["contends"] else 1 if entry["ceiling"] else 2
    return (place, -entry["score"]["median"]) if entry["score"] else (3, 0.0)


def _spreads(each: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    names = dict.fromkeys(name for figures in each for name in figures)
    return {name: found for name in names if (found := spread([figures.get(name) for figures in each])) is not None}


def _curves(runs: Sequence[ComparedRun]) -> dict[str, Any]:
    """Attack -> model -> curves of all seeds, for the attacks that have one."""
    found: dict[str, Any] = {}
    for run in runs:
        for model in ("unlearned", "oracle", "original"):
            for name, raw in mapping(mapping(run.rows.get(model)).get("attacks")).items():
                points = [list(map(figure, sequence(point))) for point in sequence(mapping(raw).get("curve"))]
                points = [point for point in points if len(point) == 2 and None not in point]
                if points:
                    what = mapping(raw).get("what") or mapping(raw).get("unit") or ""
                    attack = found.setdefault(str(name), {"what": str(what), "x": str(mapping(raw).get("x") or "effort")})
                    attack.setdefault(model, []).append(points)
    return found


def _reference(row: str, runs: Sequence[ComparedRun], over: Collection[str]) -> dict[str, Any] | None:
    """One model that all runs of a seed share: taken from the first run of each seed that has it."""
    by_seed: dict[int, ComparedRun] = {}
    for run in runs:
        if mapping(run.rows.get(row)):
            by_seed.setdefault(run.label.seed, run)
    if not by_seed:
        return None
    each = [figures_of(run.rows.get(row)) for run in by_seed.values()]
    own = [{key: value for key, value in figures.items() if key != "reward_attribution"} for figures in each]
    parts = [closenesses(run.rows, row) for run in by_seed.values()]
    there = [key for key in over if all(key in found for found in parts)]  # a second oracle is not always attacked
    groups = {group: spread([score_of_group(found, there, group) for found in parts]) for group in GROUPS}
    return {"figures": _spreads(own), "closeness": _spreads(parts), "groups": groups,
            "score": spread([score(found, there) for found in parts]),
            "parts": there, "seeds": len(by_seed)}  # fmt: skip


def _add_intervals(entries: Sequence[dict[str, Any]], draws: Mapping[str, Array]) -> None:
    for entry in entries:
        values = draws.get(entry["name"])
        done = sum(not run["error"] for run in entry["runs"])
        drawn = entry["facts"] or done > 1  # one seed without figures of single rows leaves nothing to draw
        entry["interval"] = None if values is None or not drawn else list(percentile_interval(values, level=LEVEL))


def _difference(
    entry: Mapping[str, Any], other: Mapping[str, Any] | None, draws: Mapping[str, Array]
) -> dict[str, float] | None:
    """Score minus that of another entry on the same seeds, with its interval and the share of draws that are higher."""
    if other is None or other is entry or not entry["score"] or not other["score"]:
        return None
    seeds = [[run["seed"] for run in one["runs"] if not run["error"]] for one in (entry, other)]
    if seeds[0] != seeds[1] or entry["name"] not in draws or other["name"] not in draws:
        return None
    gaps = draws[entry["name"]] - draws[other["name"]]
    low, high = percentile_interval(gaps, level=LEVEL)
    value = entry["score"]["median"] - other["score"]["median"]
    return {"value": value, "low": low, "high": high, "better": float((gaps > 0).mean())}


def _versions(runs: Sequence[ComparedRun]) -> dict[str, list[str]]:
    names = dict.fromkeys(str(name) for run in runs for name in run.versions)
    return {name: sorted({str(run.versions.get(name)) for run in runs}) for name in names}


def _version_warnings(runs: Sequence[ComparedRun]) -> list[str]:
    mixed = [name for name, values in _versions(runs).items() if len(values) > 1]
    return [f"The runs were made with different versions of {', '.join(mixed)}."] if mixed else []


def _disagreements(runs: Sequence[ComparedRun]) -> list[str]:
    """Runs of one seed that were not measured against the same oracle, or not by the same referee."""
    rouge: dict[int, set[float | None]] = {}
    judged: dict[int, set[float | None]] = {}
    for run in runs:
        oracle = mapping(run.rows.get("oracle"))
        rouge.setdefault(run.label.seed, set()).add(figure(oracle.get("forget_rouge")))
        judged.setdefault(run.label.seed, set()).add(figure(oracle.get("attribution")))
    found = []
    for seed in sorted(rouge):
        if len(rouge[seed]) > 1:
            found.append(f"Runs of seed {seed} were measured against different oracles or on different rows.")
        elif len(judged[seed]) > 1:
            found.append(f"Attribution in runs of seed {seed} is by different referees; give all of them one referee.scorer.")
    return found
