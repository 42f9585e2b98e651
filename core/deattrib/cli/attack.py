"""`deattrib attack`: try to get forgotten data out of a finished run's model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deattrib.cli.run import Threads, quiet_libraries
from deattrib.cli.specs import parse_spec, split_specs
from deattrib.report.text import visible

COLUMNS = (("original", "original"), ("unlearned", "unlearned"), ("oracle", "oracle"), ("oracle_second", "oracle 2"))


def attack(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    attacks: Annotated[
        str | None,
        typer.Option(help="Names separated by commas, each with settings after colons: sampling:samples=32; by default all."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print attacks.json instead of a table.")] = False,
    threads: Threads = None,
) -> None:
    """Relearn, sample, rephrase, begin and quantise: what comes back, beside original and oracle."""
    from deattrib.errors import ConfigError

    specs = (
        None if attacks is None else [parse_spec(text, option="--attacks", kind="an attack") for text in split_specs(attacks)]
    )
    if specs == []:
        raise ConfigError("--attacks names nothing; leave it out for all attacks, or see `deattrib plugins`.")
    quiet_libraries()
    import torch

    from deattrib.runs.attack import ATTACKS_FILE
    from deattrib.runs.attack import attack as carry_out

    if threads:
        torch.set_num_threads(threads)
    content = carry_out(folder, specs, say=lambda stage, detail: typer.echo(f"{stage:9s} {detail}", err=True))
    if as_json:
        typer.echo((folder / ATTACKS_FILE).read_text(encoding="utf-8"))
    else:
        typer.echo(table(content["rows"]))
        typer.echo(f"\nattacks: {folder / ATTACKS_FILE}\nreport: {folder / 'report.html'}")


def table(rows: dict[str, Any]) -> str:
    """One attack a line, the models side by side, why a figure is missing below."""
    columns = [(key, label) for key, label in COLUMNS if rows.get(key)]
    names = list(dict.fromkeys(name for key, _ in columns for name in rows[key]))
    lines = ["", f"{'':20s}" + "".join(f"{label:>11s}" for _, label in columns)]
    for name in names:
        entries = [rows[key].get(name) or {} for key, _ in columns]
        cells = "".join(f"{'–':>11s}" if entry.get("figure") is None else f"{entry['figure']:11.3f}" for entry in entries)
        lines.append(f"{visible(name, 19):20s}{cells}")
        lines += [
            f"    {visible(reason, 400)}" for reason in dict.fromkeys(entry["error"] for entry in entries if entry.get("error"))
        ]
    lines += ["", "As the oracle (retrained without the forgotten owners) is the aim; what each figure is says the report."]
    return "\n".join(lines)
