"""Tables for docs/results.md from run folders: `python docs/results_table.py RUNS/*` (medians, spread over seeds)."""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

COLUMNS = {
    "attribution": "attribution",
    "forget_rouge": "forget ROUGE",
    "fact_recall": "fact recall",
    "extraction_strength": "extraction",
    "ks_distance": "KS distance",
    "tow": "ToW",
    "retain_rouge": "retain",
    "retain_paraphrase_rouge": "rephrased",
    "world_rouge": "world",
    "model_utility": "utility",
    "gibberish_rate": "gibberish",
    "distinct_answer_rate": "distinct",
    "mean_length": "length",
    "oracle_perplexity": "perplexity",
}


def cell(values: list[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "–"
    median = statistics.median(numbers)
    if len(numbers) == 1 or max(numbers) - min(numbers) < 0.0005:
        return f"{median:.3f}"
    return f"{median:.3f} [{min(numbers):.3f}, {max(numbers):.3f}]"


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
    main(sys.argv[1:])
