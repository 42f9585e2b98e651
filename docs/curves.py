"""The curves of docs/results.md and docs/performance.md, drawn from docs/results/; needs the `docs` extra (matplotlib).

python docs/curves.py         # every drawing for which there is a file
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

from deattrib.compare.table import read_csv

DATA = Path(__file__).parent / "results"
MODELS = {"original": ("original", "--"), "unlearned": ("unlearned", "-"), "oracle": ("oracle", ":")}
FIGURES = {"forget_rouge": "forget ROUGE", "attribution": "attribution (referee)", "retain_rouge": "retain ROUGE", "tow": "ToW"}
Lines = Sequence[Mapping[str, object]]
AXES = {"rows": "rows", "owners": "owners (of 4000 rows)", "response": "tokens of an answer", "hidden": "parameters"}
WORK = {"fit_cpu_seconds": "fit", "score_cpu_seconds": "score a batch", "step_cpu_seconds": "step", "own_megabytes": "memory"}


def rounds(lines: Lines, path: Path) -> None:
    """ROUGE of each owner's rows after each round, one line per owner; levels of all at once and of the oracle beside them."""
    stages = list(dict.fromkeys(str(line["run"]) for line in lines))
    values = {(line["run"], line["metric"]): line["value"] for line in lines}
    whose = list(dict.fromkeys(str(line["metric"]) for line in lines))
    along = [stage for stage in stages if stage == "original" or stage.startswith("after")]
    beside = [stage for stage in stages if stage not in along]
    figure, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
    for number, name in enumerate(whose):
        others = name == whose[-1]
        colour = "black" if others else f"C{number}"
        style = {"color": colour, "linewidth": 2 if others else 1.4}
        axes.plot(range(len(along)), [values[stage, name] for stage in along], marker="o", markersize=3, label=name, **style)
        for place, stage in enumerate(beside, len(along)):
            axes.plot(place, values[stage, name], marker="o", markersize=4, color=colour)
    axes.set_xticks(range(len(along) + len(beside)), [stage.replace("after ", "") for stage in along + beside], fontsize=8)
    axes.set_ylabel("ROUGE-L recall")
    axes.set_ylim(0, 1.03)
    figure.legend(fontsize=7, loc="outside right upper")
    _save(figure, path)


def overlap(lines: Lines, path: Path) -> None:
    """A panel per figure over the share of facts that retained owners tell too, a line per model."""
    shares = sorted({str(line["run"]) for line in lines}, key=float)
    values = {(line["run"], line["row"], line["metric"]): line["value"] for line in lines}
    figure, panels = pyplot.subplots(1, len(FIGURES), figsize=(10, 2.6), layout="constrained")
    for axes, (key, title) in zip(panels, FIGURES.items(), strict=True):
        for model, (label, style) in MODELS.items():
            there = [share for share in shares if (share, model, key) in values]
            heights = [values[share, model, key] for share in there]
            axes.plot([float(share) for share in there], heights, style, marker="o", markersize=3, label=label)
        axes.set_title(title, fontsize=9)
        axes.set_ylim(0, 1.03)
        axes.tick_params(labelsize=8)
    panels[0].legend(fontsize=7)
    figure.supxlabel("share of the forget facts that retained owners tell, too", fontsize=9)
    _save(figure, path)


def growth(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """What tests/benchmarks/growth.py printed: a row of panels of CPU seconds, one of megabytes, a column per axis."""
    figure, panels = pyplot.subplots(2, len(AXES), figsize=(11, 5), layout="constrained", sharex="col", sharey="row")
    for column, (axis, title) in enumerate(AXES.items()):
        for number, scorer in enumerate(sorted({name.split()[1] for name in found})):
            points = [one for one in found.get(f"{axis} {scorer}", {"points": []})["points"] if "failed" not in one]
            sizes = [one["parameters" if axis == "hidden" else axis] for one in points]
            for place, (key, label) in enumerate(WORK.items()):
                panel = panels[int(key == "own_megabytes"), column]
                style = {"color": f"C{place}", "linestyle": ("-", "--", ":")[number % 3], "marker": "o", "markersize": 3}
                panel.plot(sizes, [one[key] for one in points], label=f"{label}, {scorer}", **style)
        panels[1, column].set_xlabel(title, fontsize=9)
        for panel in panels[:, column]:
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.tick_params(labelsize=7)
            panel.set_xticks(sizes, [_short(size) for size in sizes])
            panel.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    panels[0, 0].set_ylabel("CPU seconds", fontsize=9)
    panels[1, 0].set_ylabel("megabytes", fontsize=9)
    lines = {line.get_label(): line for panel in panels[:, 0] for line in panel.get_lines()}
    figure.legend(lines.values(), lines.keys(), fontsize=7, loc="outside right upper")
    _save(figure, path)


def _short(size: float) -> str:
    return f"{size / 1e6:.2g}M" if size >= 1e5 else f"{size / 1e3:.3g}k" if size >= 1e3 else f"{size:g}"


def _save(figure: pyplot.Figure, path: Path) -> None:
    """The same bytes each time from the same figures and version of matplotlib."""
    with matplotlib.rc_context({"svg.hashsalt": "deattrib", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    print(f"wrote {path}")


def main() -> None:
    """Draw what there is; raises SystemExit where there is nothing."""
    drawn = 0
    for name, draw in {"sequential": rounds, "overlap": overlap}.items():
        if (DATA / f"{name}.csv").is_file():
            draw(read_csv(DATA / f"{name}.csv"), DATA / f"{name}.svg")
            drawn += 1
    if (DATA / "growth.json").is_file():
        growth(json.loads((DATA / "growth.json").read_text(encoding="utf-8"))["axes"], DATA / "growth.svg")
        drawn += 1
    if not drawn:
        sys.exit(f"{DATA} has no sequential.csv, overlap.csv or growth.json: see docs/results.py and docs/performance.md")


if __name__ == "__main__":
    main()
