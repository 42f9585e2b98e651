"""The curves of docs/results.md, drawn from docs/results/*.csv; needs the `docs` extra (matplotlib).

python docs/curves.py         # every drawing for which there is a file
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

from deattrib.compare.table import read_csv

DATA = Path(__file__).parent / "results"
MODELS = {"original": ("original", "--"), "unlearned": ("unlearned", "-"), "oracle": ("oracle", ":")}
FIGURES = {"forget_rouge": "forget ROUGE", "attribution": "attribution (referee)", "retain_rouge": "retain ROUGE", "tow": "ToW"}
Lines = Sequence[Mapping[str, object]]


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
    if not drawn:
        sys.exit(f"{DATA} has neither sequential.csv nor overlap.csv: see docs/results.py")


if __name__ == "__main__":
    main()
