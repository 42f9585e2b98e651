"""`deattrib audit`: scorers next to exact attribution by retraining."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from deattrib.cli.run import Set, Threads, quiet_libraries
from deattrib.cli.specs import parse_spec, split_specs

Owners = Annotated[int, typer.Option(min=1, help="Owners that are left out one at a time, forget owners first.")]


def audit(
    target: Annotated[str, typer.Argument(help="A config file, a run folder (its checkpoints are audited too), or 'demo'.")],
    scorers: Annotated[
        str, typer.Option(help="Names separated by commas, each with settings after colons: min-k:reference=base:share=0.1.")
    ] = "classifier,membership,overlap,loss,min-k",
    owners: Owners = 4,
    seeds: Annotated[int, typer.Option(min=1, help="Retrainings per left-out owner.")] = 3,
    rows: Annotated[int, typer.Option(min=1, help="Responses per owner and kind, at most.")] = 8,
    subsets: Annotated[int, typer.Option(min=0, help="Random halves of the owners for the LDS; 0: none.")] = 0,
    subset_seeds: Annotated[int, typer.Option(min=1, help="Retrainings per half; one gives no noise ceiling.")] = 2,
    max_minutes: Annotated[float, typer.Option(min=0, help="Refuse where retraining is estimated to take longer.")] = 60.0,
    set_: Set = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the run that is audited.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder; by default audits/NAME-seedN.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print audit.json instead of a table.")] = False,
    threads: Threads = None,
) -> None:
    """Compare scorers with retraining: rank correlation, LDS, top owner, calibration, gibberish, cost, drift."""
    from deattrib.audit.settings import AuditSettings
    from deattrib.errors import ConfigError
    from deattrib.runs.validation import validate

    config, run = _config(target, set_ or [], seed)
    sizes = {"owners": owners, "seeds": seeds, "rows": rows, "subsets": subsets, "subset_seeds": subset_seeds}
    settings = validate(AuditSettings, {**sizes, "max_minutes": max_minutes}, source="deattrib audit")
    specs = {text: parse_spec(text) for text in split_specs(scorers)}
    if not specs:
        raise ConfigError("--scorers names nothing; leave it out for the usual ones, or see `deattrib plugins`.")
    folder = output or default_output(config.name, config.seed)
    quiet_libraries()
    import torch

    from deattrib.runs.audit import audit as carry_out

    if threads:
        torch.set_num_threads(threads)

    def say(stage: str, detail: str) -> None:
        typer.echo(f"{stage:9s} {detail}", err=True)

    result = carry_out(config, specs, settings, output=folder, run=run, say=say)
    if as_json:
        typer.echo((result.folder / "audit.json").read_text(encoding="utf-8"))
    else:
        typer.echo(table(result.content))
        typer.echo(f"\naudit: {result.folder / 'audit.html'}")


def _config(target: str, overrides: list[str], seed: int | None) -> tuple[Any, Path | None]:
    from deattrib.runs.config import build_config, demo_settings

    if target == "demo":
        return build_config(data=demo_settings(), overrides=overrides, seed=seed), None
    path = Path(target)
    if path.is_dir():
        from deattrib.runs.folder import read_config

        return build_config(data=read_config(path), overrides=overrides, seed=seed), path
    return build_config(path=path, overrides=overrides, seed=seed), None


def default_output(name: str, seed: int) -> Path:
    """A folder of that name without an audit in it."""
    from deattrib.runs.folder import plain_name

    base = f"{plain_name(name)}-seed{seed}"
    path, number = Path("audits") / base, 1
    while (path / "audit.json").exists():
        number += 1
        path = Path("audits") / f"{base}-{number}"
    return path


def table(content: dict[str, Any]) -> str:
    """One scorer a line."""
    heads = ("Spearman", "95 %", "owners", "LDS", "top-1", "own/other", "gibberish", "forwards")
    lines = ["", f"{'':28s}" + "".join(f"{head:>15s}" if head == "95 %" else f"{head:>11s}" for head in heads)]
    for entry in content["scorers"]:
        name = entry["name"][:27]
        if entry["error"]:
            lines.append(f"{name:28s}  {entry['error'][:110]}")
            continue
        rho, cost = entry["rows"]["spearman"], entry["cost"]
        cells = [
            _cell(rho["value"]),
            f"{rho['low']:6.2f} – {rho['high']:.2f}".rjust(15),
            _cell(entry["owners"]["spearman"]["value"]),
            _cell(entry["lds"]["value"] if entry["lds"] else None),
            _cell(entry["top1_own"]),
            _cell(entry["auroc_own_other"]),
            _cell(entry["means"]["gibberish"]["attribution"]),
            _cell(cost["forwards"] if cost else None),
        ]
        lines.append(f"{name:28s}" + "".join(cells))
    exact = content["exact"]
    lines.append(
        f"{'ceiling':28s}{_cell(exact['ceiling_rows'])}{'':15s}{_cell(exact['ceiling_owners'])}{_cell(exact['ceiling_lds'])}"
    )
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return f"{'–':>11s}" if value is None or math.isnan(value) else f"{value:11.2f}"
