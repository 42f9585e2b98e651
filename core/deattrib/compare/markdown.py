"""The table of results.csv in Markdown, as docs/results.md has it: medians over seeds, smallest and largest in brackets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deattrib.compare.content import REFERENCES, spread
from deattrib.compare.folders import Label
from deattrib.report.labels import LABELS

OWN = {"score": "score", "closeness attacks": "attacks, closeness", "seconds": "seconds"}  # no figures of metrics.json
ORDER = (
    "score",
    "attribution",
    "forget_rouge",
    "fact_recall",
    "extraction_strength",
    "ks_distance",
    "closeness attacks",
    "tow",
    "retain_rouge",
    "retain_paraphrase_rouge",
    "world_rouge",
    "model_utility",
    "gibberish_rate",
    "distinct_answer_rate",
    "mean_length",
    "oracle_perplexity",
    "seconds",
)
COLUMNS = {key: OWN[key] if key in OWN else LABELS[key] for key in ORDER}
SAME = 0.0005


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The lines of `read_csv` as one table: references first, then every entry with all its seeds."""
    groups: dict[str, dict[str, dict[int, float | None]]] = {row: {} for row in REFERENCES}
    runs: dict[str, set[int]] = {}
    errors = []
    for line in rows:
        label = Label(line["method"], line["reward"], line["variant"], line["seed"])
        if line["error"]:
            errors.append(f"{label.entry}, seed {label.seed}: {line['error']}")
            continue
        name = label.entry if line["row"] == "unlearned" else line["row"]
        groups.setdefault(name, {}).setdefault(line["metric"], {}).setdefault(label.seed, line["value"])
        runs.setdefault(name, set()).add(label.seed)
    shown = {name: figures for name, figures in groups.items() if figures}
    columns = [key for key in COLUMNS if any(key in figures for figures in shown.values())]
    lines = ["| | runs | " + " | ".join(COLUMNS[key] for key in columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for name, figures in shown.items():
        title = f"{_safe(name)} (collapsed)" if _collapsed(figures) else _safe(name)
        cells = [cell(list(figures.get(key, {}).values())) for key in columns]
        lines.append(f"| {title} | {len(runs[name])} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {_safe(error)}" for error in errors)] if errors else []
    return "\n".join(lines)


def _collapsed(figures: Mapping[str, Mapping[int, float | None]]) -> bool:
    """In half of the seeds or more."""
    values = list(figures.get("collapsed", {}).values())
    return 2 * sum(value or 0 for value in values) >= len(values) > 0


def cell(values: Sequence[float | None]) -> str:
    """Median and range over seeds; the median alone where they are the same."""
    found = spread(values)
    if found is None:
        return "–"
    if found["high"] - found["low"] < SAME:
        return f"{found['median']:.3f}"
    return f"{found['median']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _safe(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
