"""The comparison as one HTML page: compare.json in, one text out. No network, no script, same input same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from statistics import median
from typing import Any
from urllib.parse import quote

from jinja2 import Template
from markupsafe import Markup

from deattrib.compare.plots import curves, track, trade_off
from deattrib.compare.score import PARTS, UTILITY_FLOOR
from deattrib.compare.verdict import caveats, sentence, title
from deattrib.compare.views import attribution_table, cell, difference, main_table, other_figures
from deattrib.report.figures import NOTHING, plain, seconds, show
from deattrib.report.template import page_template, style
from deattrib.report.text import visible


@cache
def _template() -> Template:
    return page_template("deattrib.compare", own_css=style("deattrib.compare"))


def render(content: Mapping[str, Any]) -> str:
    """The page for what `deattrib.compare.content.build_content` made. All text is escaped."""
    columns, rows = main_table(content)
    names, others = other_figures(content)
    scorers, attributions = attribution_table(content)
    numbers = {entry["name"]: number for number, entry in enumerate(content["entries"], 1)}
    placed = _placed(content, numbers)
    return _template().render(
        name=visible(content["name"], 80),
        title=title(content),
        sentence=sentence(content),
        caveats=caveats(content),
        facts=_facts(content),
        board=_board(content),
        columns=[(column.title, column.about) for column in columns],
        rows=rows,
        intervals=[_interval(entry) for entry in content["entries"] if entry["score"]],
        level=f"{content['level']:.0%}",
        samples=content["samples"],
        trade_off=_trade_off(placed),
        legend=[(entry["number"], visible(entry["name"], 80), entry["contends"]) for entry in placed],
        attacks=_attacks(content, numbers),
        scorers=scorers,
        attributions=attributions,
        base=visible(content["base"] or "", 80),
        variants=_variants(content),
        names=names,
        others=others,
        runs=_runs(content),
        own=[(visible(name, 80), _pairs(pairs)) for name, pairs in content["settings"]["own"].items() if pairs],
        shared=_pairs(content["settings"]["shared"]),
        versions=[(visible(name, 60), visible(", ".join(values), 120)) for name, values in content["versions"].items()],
        parts=[part.label for part in PARTS if part.key in content["parts"]],
    )


def _pairs(pairs: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    return [(visible(path, 200), visible(text, 400)) for path, text in pairs]


def _facts(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    corpus = content["corpus"] or {}
    found = [
        ("Corpus", corpus.get("name")),
        ("Rows to forget", f"{corpus.get('forget_rows')} of {corpus.get('rows')}" if corpus else None),
        ("Seeds", ", ".join(map(str, content["seeds"]))),
        ("Runs", sum(len(entry["runs"]) for entry in content["entries"])),
    ]
    return [(label, visible(text, 120)) for label, text in found if text is not None]


def _board(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The picture at the top: per entry what was forgotten, what was kept, and the score."""
    second = content["references"]["oracle_second"]
    found = []
    for entry in content["entries"]:
        if not entry["score"]:
            continue
        tracks = []
        for group in ("forgotten", "kept"):
            level = (second["groups"][group] or {}).get("median") if second else None
            each = [run["groups"][group] for run in entry["runs"] if run["groups"][group] is not None]
            spread = entry["groups"][group]
            said = f"{entry['name']}, {group}: {cell(spread, 'score').text} (seeds {', '.join(show(v, 'score') for v in each)})"
            median = spread["median"] if spread else None
            tracks.append((group, track(said, each, median, level, contends=entry["contends"]), cell(spread, "score").text))
        note = "" if entry["contends"] else visible(_why_not(entry), 80)
        found.append(
            {
                "name": visible(entry["name"], 80),
                "tracks": tracks,
                "score": cell(entry["score"], "score"),
                "note": note,
            }
        )
    return found


def _why_not(entry: Mapping[str, Any]) -> str:
    """Why an entry does not contend."""
    return "ceiling: it retrains" if entry["ceiling"] else str(entry["incomplete"] or "collapsed")


def _interval(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Name, score, its interval, difference to the first, share of draws above it, why it does not contend."""
    bounds = entry["interval"]
    interval = f"{bounds[0]:.3f} – {bounds[1]:.3f}" if bounds else NOTHING
    behind = entry["behind"]
    note = f"collapsed in {entry['collapsed']}" if entry["collapsed"] else "" if entry["contends"] else _why_not(entry)
    higher = f"{behind['better']:.0%}" if behind else NOTHING
    return (
        visible(entry["name"], 80),
        cell(entry["score"], "score").text,
        interval,
        difference(behind),
        higher,
        visible(note, 200),
    )


def _placed(content: Mapping[str, Any], numbers: Mapping[str, int]) -> list[dict[str, Any]]:
    """Entries of the trade-off: what is kept of the utility (`kept_utility`), how much is forgotten."""
    found = []
    for entry in content["entries"]:
        points = [
            (run["utility"], run["groups"]["forgotten"])
            for run in entry["runs"]
            if run["utility"] is not None and run["groups"]["forgotten"] is not None
        ]
        if points:
            middle = tuple(median(values) for values in zip(*points, strict=True))
            found.append({"number": numbers[entry["name"]], "name": entry["name"], "points": points, "median": middle,
                          "contends": entry["contends"]})  # fmt: skip
    return found


def _trade_off(placed: Sequence[Mapping[str, Any]]) -> Markup:
    said = "Utility kept against closeness in what was to be forgotten. " + "; ".join(
        f"{entry['number']} {entry['name']}: {plain(round(entry['median'][0], 2))}, {plain(round(entry['median'][1], 2))}"
        for entry in placed
    )
    return trade_off(said, placed, wall=UTILITY_FLOOR, across="utility kept", up="forgotten")


def _attacks(content: Mapping[str, Any], numbers: Mapping[str, int]) -> list[tuple[str, str, Markup]]:
    """One panel per attack with a curve: every entry's by its number, original and oracle beside them."""
    found = []
    for name in dict.fromkeys(name for entry in content["entries"] for name in entry["attack_curves"]):
        lines: list[tuple[str, str, Sequence[Sequence[float]]]] = []
        what, across = "", "effort"
        for entry in content["entries"]:
            attack = entry["attack_curves"].get(name, {})
            what, across = what or attack.get("what", ""), attack.get("x", across)
            for kind in ("oracle", "original"):
                if attack.get(kind) and not any(label == kind for label, _, _ in lines):
                    lines.append((kind, kind, attack[kind][0]))
            for index, points in enumerate(attack.get("unlearned", [])):
                lines.append((str(numbers[entry["name"]]) if index == 0 else "", "each", points))
        said = f"{name}: " + "; ".join(f"{label}: ends at {plain(points[-1][1])}" for label, _, points in lines if label)
        found.append((visible(name, 60), visible(what, 200), curves(said, lines, across=visible(across, 40))))
    return found


def _variants(content: Mapping[str, Any]) -> list[tuple[str, list[Any], str, list[tuple[str, str]]]]:
    own = content["settings"]["own"]
    found = []
    for entry in content["entries"]:
        if entry["variant"] and entry["score"]:
            cells = [cell(entry["score"], "score"), *(cell(entry["groups"][group], "score") for group in entry["groups"])]
            changes = _pairs(own.get(entry["name"], []))
            found.append((visible(entry["variant"], 80), cells, difference(entry["against_base"]), changes))
    return found


def _runs(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "entry": visible(entry["name"], 80),
            "seed": run["seed"],
            "score": show(run["score"], "score"),
            "utility": NOTHING if run["utility"] is None else f"{run['utility']:.2f}",
            "seconds": NOTHING if run["seconds"] is None else seconds(run["seconds"]),
            "page": quote(run["page"], errors="replace") if run["page"] else "",
            "note": visible(run["error"] or "; ".join(run["collapsed"]), 400),
        }
        for entry in content["entries"]
        for run in entry["runs"]
    ]
