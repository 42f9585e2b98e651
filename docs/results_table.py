"""Tables for docs/results.md from run folders (medians, spread over seeds).

python docs/results_table.py RUNS/*             # one row per kind of run, named by its folder without the seed
python docs/results_table.py --targets RUNS/*   # runs of one kind against the project's targets
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from deattrib.compare.markdown import COLUMNS as ALL_COLUMNS
from deattrib.compare.markdown import cell

COLUMNS = {key: label for key, label in ALL_COLUMNS.items() if key not in ("score", "closeness attacks", "seconds")}


def targets(folders: list[str]) -> None:
    """Each target of the demo: the limit and what was measured, medians over the runs, every run in brackets."""
    runs = [json.loads((Path(folder) / "metrics.json").read_text(encoding="utf-8"))["rows"] for folder in sorted(folders)]

    def values(row: str, figure: str) -> list[float]:
        return [float(run[row][figure]) for run in runs]

    def gap(figure: str) -> tuple[list[float], list[float]]:
        oracle, original, mine = (values(row, figure) for row in ("oracle", "original", "unlearned"))
        return [abs(a - b) for a, b in zip(mine, oracle, strict=True)], [
            0.15 * abs(a - b) for a, b in zip(original, oracle, strict=True)
        ]

    def ratio(figure: str, to: str) -> list[float]:
        return [a / b for a, b in zip(values("unlearned", figure), values(to, figure), strict=True)]

    table: list[tuple[str, str, list[float], list[float], int]] = []  # name, limit in words, measured, limit, sign
    for name, figure in (
        ("attribution gap", "attribution"),
        ("forget ROUGE gap", "forget_rouge"),
        ("fact recall gap", "fact_recall"),
    ):
        table.append((name, "≤ 0.15 × (original − oracle)", *gap(figure), -1))
    noise = [value + 0.2 for value in values("oracle_second", "ks_distance")]
    table.append(("KS distance", "≤ that of two oracles + 0.2", values("unlearned", "ks_distance"), noise, -1))
    one = [1.0] * len(runs)
    for name, words, measured, limit, sign in (
        ("ToW", "≥", values("unlearned", "tow"), 0.88, 1),
        ("retain ROUGE / original", "≥", ratio("retain_rouge", "original"), 0.97, 1),
        ("retain, never trained phrasings / original", "≥", ratio("retain_paraphrase_rouge", "original"), 0.95, 1),
        ("utility / oracle", "≥", ratio("model_utility", "oracle"), 0.95, 1),
        ("distinct answers / oracle", "≥", ratio("distinct_answer_rate", "oracle"), 0.9, 1),
        ("length / oracle, distance from 1", "≤", [abs(value - 1) for value in ratio("mean_length", "oracle")], 0.2, -1),
        ("perplexity under the oracle", "≤", values("unlearned", "oracle_perplexity"), 5.0, -1),
        ("empty answers", "≤", values("unlearned", "empty_rate"), 0.0, -1),
    ):
        table.append((name, words, measured, [limit * value for value in one], sign))
    more = [a - b for a, b in zip(values("unlearned", "gibberish_rate"), values("oracle", "gibberish_rate"), strict=True)]
    table.append(("gibberish − oracle", "≤", more, [0.02] * len(runs), -1))
    print("| target | limit | measured | |\n|---|---|---|---|")
    for name, words, measured, limit, sign in table:
        met = sign * (statistics.median(measured) - statistics.median(limit)) >= -1e-9
        each = ", ".join(f"{value:.3f}" for value in measured)
        bound = f"{words} {'= ' if '(' in words or '+' in words else ''}{statistics.median(limit):.3f}"
        print(f"| {name} | {bound} | {statistics.median(measured):.3f} ({each}) | {'met' if met else '**missed**'} |")


def main(folders: list[str]) -> None:
    """Group runs by the folder's name without its seed; the models all runs share come first."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    shared: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for folder in sorted(folders):
        path = Path(folder) / "metrics.json"
        if not path.is_file():
            continue
        metrics = json.loads(path.read_text(encoding="utf-8"))
        row = metrics["rows"]["unlearned"] | {"seconds": metrics["seconds"]["unlearn"]}
        groups[re.sub(r"-seed\d+$", "", Path(folder).name)].append(row)
        for name in ("original", "oracle", "oracle_second"):
            if metrics["rows"][name]:
                shared[name][metrics["seed"]] = metrics["rows"][name]
    print("| | runs | " + " | ".join(COLUMNS.values()) + " | seconds |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    for name, rows in [(name, list(by_seed.values())) for name, by_seed in shared.items()] + list(groups.items()):
        cells = [cell([row.get(key) for row in rows]) for key in COLUMNS]
        print(f"| {name} | {len(rows)} | " + " | ".join(cells) + f" | {cell([row.get('seconds') for row in rows])} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--targets"]:
        targets(sys.argv[2:])
    else:
        main(sys.argv[1:])
