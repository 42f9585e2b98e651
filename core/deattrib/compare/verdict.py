"""What a comparison says in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from deattrib.report.figures import figure, mapping, percent, sequence
from deattrib.report.text import visible

SHOWN = 3


def title(content: Mapping[str, Any]) -> str:
    """Who came closest; entries that the bootstrap does not tell from the first are named with it."""
    leader = content["leader"]
    if leader is None:
        return "No entry contends" if any(entry["score"] for entry in content["entries"]) else "Nothing to compare"
    level = [leader, *(entry["name"] for entry in content["entries"] if _level(entry))]
    names = [visible(name, 60) for name in level[:SHOWN]]
    more = len(level) - len(names)
    named = f"{', '.join(names)} and {more} more" if more else _and(names)
    return f"{named} came closest"


def sentence(content: Mapping[str, Any]) -> str:
    """What was forgotten, what was kept, and by how many."""
    entries = content["entries"]
    seeds = {run["seed"] for entry in entries for run in entry["runs"] if not run["error"]}
    corpus = mapping(content["corpus"])
    gone = len(sequence(corpus.get("forget_owners")))
    whom = f"{gone} of {corpus.get('owners')} owners" if gone else "the owners"
    start = f"{_count(len(entries), 'entry', 'entries')} on {_count(len(seeds), 'seed', 'seeds')}, asked to forget {whom}."
    first = next((entry for entry in entries if entry["name"] == content["leader"]), None)
    if first is None:
        scored = any(entry["score"] for entry in content["entries"])
        why = "Each has collapsed, retrains or lacks seeds; their figures are below." if scored else "There is no score."
        return f"{start} {why}"
    second = mapping(content["references"].get("oracle_second"))
    reach = figure(mapping(second.get("score")).get("median"))
    said = [
        f"{start} {visible(first['name'], 60)} comes closest to a model retrained without them: score "
        f"{first['score']['median']:.2f}, where 1 is that model itself"
        + (f" and a second one of another seed reaches {reach:.2f}." if reach is not None else ".")
    ]
    facts, before = _figure(first, "fact_recall"), _figure(content["references"].get("original"), "fact_recall")
    if facts is not None and before is not None:
        said.append(f"It states {percent(facts)} of the forgotten facts ({percent(before)} before)")
        utilities = sorted(run["utility"] for run in first["runs"] if run["utility"] is not None)
        if utilities:
            said[-1] += f" and keeps {percent(median(utilities))} of the utility it could keep"
        said[-1] += "."
    return " ".join(said)


def caveats(content: Mapping[str, Any]) -> list[str]:
    """What a reader has to know before quoting the sentence."""
    found = [str(warning) for warning in content["warnings"]]
    fallen = [entry["name"] for entry in content["entries"] if entry["collapsed"]]
    if fallen:
        found.append(f"Collapsed in some or all seeds: {', '.join(fallen)}.")
    failed = [run for entry in content["entries"] for run in entry["runs"] if run["error"]]
    if failed:
        found.append(f"{_count(len(failed), 'run has', 'runs have')} no result; the reasons are under “Runs”.")
    if content["entries"] and not all(entry["facts"] for entry in content["entries"]):
        found.append("Some runs have no figures of single rows (made by an earlier version): their facts are not resampled.")
    done = {tuple(run["seed"] for run in entry["runs"] if not run["error"]) for entry in content["entries"]} - {()}
    if len(done) > 1:
        found.append("Not all entries have the same seeds; medians over different seeds stand next to each other.")
    if max((len(seeds) for seeds in done), default=3) < 3:
        found.append("Fewer than three seeds: differences between entries may be those between seeds.")
    return [visible(text, 600) for text in found]


def _level(entry: Mapping[str, Any]) -> bool:
    behind = entry["behind"]
    return bool(entry["contends"] and behind and behind["high"] >= 0)


def _figure(holder: object, key: str) -> float | None:
    return figure(mapping(mapping(mapping(holder).get("figures")).get(key)).get("median"))


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
