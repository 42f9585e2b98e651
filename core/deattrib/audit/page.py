"""The audit as one HTML page: parsed audit.json in, one text out. No network, no script, same input same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Template
from markupsafe import Markup

from deattrib.audit.plots import cloud, forest, line, spoken
from deattrib.audit.probes import KINDS
from deattrib.report.curves import draw
from deattrib.report.figures import NOTHING, figure, mapping, plain, seconds, sequence
from deattrib.report.page import flat
from deattrib.report.template import page_template
from deattrib.report.text import visible

# (heading, where it is in an entry, which ceiling applies, what it says)
RANKINGS = (
    (
        "Over rows",
        ("rows", "spearman"),
        "ceiling_rows",
        "Spearman with exact attribution over sampled answers, each about its own owner.",
    ),
    (
        "Over owners",
        ("owners", "spearman"),
        "ceiling_owners",
        "Mean over answers of the Spearman over audited owners: does it rank the right owner first?",
    ),
    (
        "LDS",
        ("lds",),
        "ceiling_lds",
        "Linear datamodelling score: summed attributions of half of the owners against a model trained on that half.",
    ),
)
# (heading, keys, explanation)
COLUMNS = (
    ("Kendall, rows", ("rows", "kendall", "value"), "Kendall's tau-b over the same rows as Spearman."),
    ("Top owner", ("top1_own",), "Share of the original's answers for which the owner asked about has the highest score."),
    ("… as exact", ("top1_exact",), "Share for which scorer and retraining name the same owner."),
    ("Own / other", ("auroc_own_other",), "AUROC of the own owner's score against other owners', same answers."),
    (
        "Original / oracle",
        ("auroc_original_oracle",),
        "AUROC of the original's answers about forgotten owners against the oracle's.",
    ),
    ("Original / gibberish", ("auroc_original_gibberish",), "AUROC of the original's answers against gibberish."),
    ("Forwards", ("cost", "forwards"), "Time of one score over the time of one forward of the original model, same rows."),
)


@cache
def _template() -> Template:
    return page_template("deattrib.audit")


def render(content: Mapping[str, object]) -> str:
    """The page for parsed `audit.json`. Missing and non-finite figures are left blank, all text is escaped."""
    entries = [mapping(item) for item in sequence(content.get("scorers"))]
    good = [entry for entry in entries if not entry.get("error")]
    truth, corpus = mapping(content.get("exact")), mapping(content.get("corpus"))
    rows = [mapping(row) for row in sequence(content.get("rows"))]
    told = [(visible(entry.get("name"), 60), visible(entry.get("error"), 600)) for entry in entries if entry.get("error")]
    told += [(visible(entry.get("name"), 60), visible(note, 600)) for entry in good for note in sequence(entry.get("notes"))]
    return _template().render(
        facts=_facts(content, corpus, truth),
        owners=[visible(name, 80) for name in sequence(content.get("owners"))],
        rankings=_rankings(good, truth),
        columns=[(title, about) for title, _, about in COLUMNS],
        table=[(visible(entry.get("name"), 60), [_show(_at(entry, keys)) for _, keys, _ in COLUMNS]) for entry in good],
        kinds=[kind for kind in KINDS if any(row.get("kind") == kind for row in rows)],
        means=_means(good, truth, rows),
        clouds=_clouds(good, rows),
        calibration=_calibration(good),
        drift=_drift(good),
        told=told,
        settings=flat(
            {"settings": content.get("settings"), "seconds": content.get("seconds"), "versions": content.get("versions")}
        ),
    )


def _at(entry: Mapping[str, object], keys: Sequence[str]) -> float | None:
    value: object = entry
    for key in keys:
        value = mapping(value).get(key)
    return figure(value)


def _show(value: float | None) -> str:
    return NOTHING if value is None else plain(round(value, 3))


def _facts(content: Mapping[str, object], corpus: Mapping[str, object], truth: Mapping[str, object]) -> list[tuple[str, str]]:
    spent = [number for raw in mapping(content.get("seconds")).values() if (number := figure(raw)) is not None]
    found = [
        ("Corpus", corpus.get("name")),
        ("Owners audited", f"{len(sequence(content.get('owners')))} of {corpus.get('owners')}"),
        ("Seeds", truth.get("seeds")),
        ("Halves", f"{truth.get('halves')} × {truth.get('half_seeds')} seeds" if truth.get("halves") else "none"),
        ("Responses", len(sequence(content.get("rows")))),
        ("Run", content.get("run")),
        ("Seed", content.get("seed")),
        ("Time", seconds(sum(spent)) if spent else None),
    ]
    return [(label, visible(text, 120)) for label, text in found if text is not None]


def _rankings(good: Sequence[Mapping[str, object]], truth: Mapping[str, object]) -> list[dict[str, Any]]:
    found = []
    for title, keys, top, about in RANKINGS:
        lines = []
        for entry in good:
            value: object = entry
            for key in keys:
                value = mapping(value).get(key)
            lines.append((str(entry.get("name")), mapping(value)))
        if not any(figure(measure.get("value")) is not None for _, measure in lines):
            continue
        said = f"{title}. " + "; ".join(spoken(name, measure) for name, measure in lines)
        level = figure(truth.get(top))
        found.append(
            {
                "title": title,
                "about": about,
                "ceiling": _show(level) if level is not None else "",
                "drawing": forest(said, lines, level=level),
                "lines": [spoken(name, measure) for name, measure in lines],
            }
        )
    return found


def _means(
    good: Sequence[Mapping[str, object]], truth: Mapping[str, object], rows: Sequence[Mapping[str, object]]
) -> list[tuple[str, list[str]]]:
    """Mean attribution by kind of response, exact values in nats per token first."""
    kinds = [kind for kind in KINDS if any(row.get("kind") == kind for row in rows)]
    table = [("exact, nats per token", [_show(figure(mapping(truth.get("means")).get(kind))) for kind in kinds])]
    for entry in good:
        table.append((visible(entry.get("name"), 60), [_show(_at(entry, ("means", kind, "attribution"))) for kind in kinds]))
    return table


def _clouds(good: Sequence[Mapping[str, object]], rows: Sequence[Mapping[str, object]]) -> list[tuple[str, str, Markup]]:
    found = []
    for entry in good:
        if entry.get("cost") is None:  # the yardstick against itself
            continue
        points = []
        for row, raw in zip(rows, sequence(entry.get("scores")), strict=False):
            exact, score = figure(row.get("exact")), figure(raw)
            if exact is not None and score is not None and row.get("kind") in KINDS:
                points.append((exact, score, f"kind-{row['kind']}"))
        name, value = visible(entry.get("name"), 60), _show(_at(entry, ("rows", "spearman", "value")))
        said = f"{name}: raw score against exact attribution of {len(points)} responses, Spearman {value} over sampled answers"
        found.append((name, value, cloud(said, points, across="exact, nats per token", up="score")))
    return found


def _calibration(good: Sequence[Mapping[str, object]]) -> list[tuple[str, Markup]]:
    found = []
    for entry in good:
        points = []
        for raw in sequence(entry.get("calibration_curve")):
            a, b = figure(mapping(raw).get("attribution")), figure(mapping(raw).get("exact"))
            if a is not None and b is not None:
                points.append((a, b))
        if points and entry.get("cost") is not None:
            name = visible(entry.get("name"), 60)
            said = f"{name}: " + ", ".join(
                f"attribution {plain(round(a, 2))} is exact share {plain(round(b, 2))}" for a, b in points
            )
            found.append((name, line(said, points, across="attribution", up="exact share")))
    return found


def _drift(good: Sequence[Mapping[str, object]]) -> list[tuple[str, Markup]]:
    """Correlation with exact attribution at each checkpoint, where there are two at least."""
    found = []
    for entry in good:
        points = []
        for raw in sequence(entry.get("drift")):
            step, value = figure(mapping(raw).get("step")), figure(mapping(raw).get("spearman"))
            if step is not None and value is not None:
                points.append((step, value))
        if len(points) > 1 and entry.get("cost") is not None:
            name = visible(entry.get("name"), 60)
            found.append((name, draw(f"{name}: Spearman", points, (points[0][0], points[-1][0]), fixed=(-1.0, 1.0))))
    return found
