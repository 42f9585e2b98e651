"""`deattrib evaluate`: any model, with the corpus of a config or a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from deattrib.cli.run import Set, Threads


def evaluate(
    target: Annotated[Path, typer.Argument(help="A config file (.yaml), or the folder of a run.")],
    model: Annotated[
        str | None, typer.Option(help="Hub id or folder, also of a PEFT adapter; by default the run's unlearned adapter.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="PEFT adapter on top of --model, else of the original model.")] = None,
    name: Annotated[str | None, typer.Option(help="What its row is called.")] = None,
    oracle: Annotated[
        str | None, typer.Option(help="A model retrained without the forget owners, instead of the config's.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Names (or FILE.py:Class) separated by commas, settings after colons; none: only the table's own figures."
        ),
    ] = None,
    attribution: Annotated[
        str | None, typer.Option(help="Scorers that judge beside the referee: names separated by commas, all, or none.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="A JSON file to write everything to.")] = None,
    set_: Set = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of corpus and scorers.")] = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Evaluate any model or adapter beside the original and the oracle: the figures of a run, without one."""
    from deattrib.runs.evaluation import EvaluateRequest
    from deattrib.runs.evaluation import evaluate as carry_out

    request = EvaluateRequest(
        target, model, adapter, name, oracle,
        _metrics(metrics), _scorers(attribution, "--attribution"), tuple(set_ or ()), seed, output,
    )  # fmt: skip
    loaded = False

    def say(stage: str, detail: str) -> None:
        nonlocal loaded
        typer.echo(f"{stage:9s} {detail}", err=True)
        if not loaded:  # the first word comes when settings and names have been checked
            loaded = True
            from deattrib.cli.run import quiet_libraries

            quiet_libraries()
            if threads:
                import torch

                torch.set_num_threads(threads)

    content = carry_out(request, say=say, warn=lambda text: typer.echo(f"warning: {text}", err=True))
    typer.echo(json.dumps(plain(content), indent=2, ensure_ascii=False) if as_json else table(content))
    if output is not None and not as_json:
        typer.echo(f"\nwritten: {output}")


def _metrics(text: str | None) -> tuple[Any, ...] | None:
    from deattrib.cli.specs import parse_spec, split_specs

    if text is None or text == "none":
        return None if text is None else ()
    return tuple(parse_spec(part, option="--metrics", kind="a metric") for part in split_specs(text))


def _scorers(text: str | None, option: str) -> tuple[Any, ...] | str | None:
    from deattrib.cli.specs import parse_spec, split_specs

    return text if text in (None, "all", "none") else tuple(parse_spec(part, option=option) for part in split_specs(text))


def plain(value: Any) -> Any:
    """The same with null for numbers that JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def table(content: Mapping[str, Any]) -> str:
    """The models side by side: the figures that a run prints, then those of metrics and of other scorers."""
    from deattrib.cli.show import COLUMNS, ROWS
    from deattrib.report.labels import LABELS

    labels = dict(ROWS) | {content["name"]: content["name"]}
    rows = [(labels[key], row) for key, row in content["rows"].items() if row]
    arrows = {"oracle": "→", "higher": "↑", "lower": "↓"}
    lines = [(LABELS[key], arrow, [row.get(key) for _, row in rows]) for key, arrow in COLUMNS]
    for entry in content["metrics"].values():
        for column in entry["columns"]:
            figures = [row.get(column["key"]) for _, row in rows]
            lines.append((column["key"], arrows[column["direction"]], figures))
    for scorer, told in content["attribution_scorers"].items():
        mark = " (reward)" if told["reward"] else ""
        lines.append((f"by {scorer}{mark}", "→", [row["attributions"].get(scorer) for _, row in rows]))
    width = max(len(label) for label, _, _ in lines) + 1
    head = " " * (width + 2) + "".join(f"{label[:11]:>12s}" for label, _ in rows)
    shown = [f"{label:{width}s}{arrow} " + "".join(_cell(value) for value in values) for label, arrow, values in lines]
    return "\n".join(["", head, *shown, "", "→ closer to the oracle (retrained without the forgotten owners) is better."])


def _cell(value: float | None) -> str:
    if value is None:
        return f"{'–':>12s}"
    return f"{value:12.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:12.1e}"
