"""`deattrib score`: attribution of responses in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from deattrib.cli.run import Seed, Set, Threads


def score(
    file: Annotated[Path, typer.Argument(help="JSONL, CSV or parquet with columns prompt, response and, optionally, owner.")],
    corpus: Annotated[Path, typer.Option(help="JSONL of owner, prompt, response; or a config (.yaml) as for `run`.")],
    scorer: Annotated[
        str | None,
        typer.Option(
            help="A name (see `deattrib plugins`), FILE.py:Class or module:Class, settings after colons; else the reward."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The original model: folder or hub id; else as the config says.")] = None,
    forget: Annotated[
        list[str] | None, typer.Option(help="Owner on whose prompts the scale is measured; may be given several times.")
    ] = None,
    owner: Annotated[
        list[str] | None, typer.Option(help="Owner to score against, by default all; may be given several times.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where to: .jsonl, .json, .csv or .parquet; by default FILE.scores.ENDING.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    set_: Set = None,
    seed: Seed = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary for programs.")] = False,
) -> None:
    """Score responses: for each row and owner the raw score and the calibrated attribution."""
    from deattrib.cli.run import quiet_libraries
    from deattrib.cli.specs import optional_spec
    from deattrib.runs.scoring import ScoreRequest, score_file

    spec = optional_spec(scorer, option="--scorer")
    request = ScoreRequest(
        file, corpus, model, spec, tuple(forget or ()), tuple(owner or ()), tuple(set_ or ()), seed, output, overwrite
    )  # fmt: skip
    loaded = False

    def say(text: str) -> None:
        nonlocal loaded
        typer.echo(text, err=True)
        if not loaded:  # the first word comes when all that can be checked without them has been
            loaded = True
            quiet_libraries()
            if threads:
                import torch

                torch.set_num_threads(threads)

    summary = score_file(request, say)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    for part in summary["scorers"]:
        scale = part["calibration"]
        known = f"AUROC {scale['auroc']:.2f} on the original model's answers" if scale else "no scale of its own"
        typer.echo(f"{part['name']}: {known}")
    if summary["mean_own_attribution"] is not None:
        typer.echo(f"mean attribution to the rows' own owners: {summary['mean_own_attribution']:.3f}")
    typer.echo(f"{summary['rows']} rows: {summary['output']}")
