"""`deattrib run`: one run from a config file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override one setting; may be given several times.")
]
Reward = Annotated[
    str | None,
    typer.Option(
        help="The scorer: a name (see `deattrib plugins`), FILE.py:Class or module:Class; settings after colons: "
        "classifier:backbone=causal."
    ),
]
MethodName = Annotated[
    str | None,
    typer.Option(
        help="How to unlearn: dareu, a baseline such as npo (see `deattrib plugins`), or FILE.py:Class; settings after colons: "
        "npo:beta=0.5."
    ),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")]
Output = Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/NAME-[METHOD-]REWARD-seedN.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all processors.")]


def run(
    config: Annotated[Path | None, typer.Argument(help="YAML file with settings; not needed with --resume.")] = None,
    set_: Set = None,
    reward: Reward = None,
    method: MethodName = None,
    seed: Seed = None,
    output: Output = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    threads: Threads = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what the run would take: parameters, memory, steps, time."),
    ] = False,
    on: Annotated[
        str | None,
        typer.Option(help="With --dry-run: the device of the time estimate: h200, h100, a100, l40s, rtx4090, cpu, or TFLOP/s."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print JSON.")] = False,
) -> None:
    """Unlearn: make or load the models, fit the scorer, forget, evaluate, write the report."""
    from deattrib.errors import ConfigError

    if dry_run:
        if config is None or resume is not None or output is not None:
            raise ConfigError("--dry-run writes nothing and resumes nothing: give a config, without --resume and --output.")
        from deattrib.cli.dry_run import show

        show(config, set_=set_, reward=reward, method=method, seed=seed, threads=threads, on=on, as_json=as_json)
        return
    if on is not None or as_json:
        raise ConfigError("--on and --json belong to --dry-run.")
    if resume is not None and (config or set_ or reward or method or seed is not None or output):
        raise ConfigError(
            "--resume takes everything from the run's folder; leave out config, --set, --reward, --method, --seed and --output."
        )
    if resume is None and config is None:
        raise ConfigError("Give a config file, or --resume FOLDER; `deattrib demo` runs without either.")
    carry_out(
        config, data=None, set_=set_, reward=reward, method=method, seed=seed, output=output, resume=resume, threads=threads
    )


def carry_out(
    path: Path | None,
    *,
    data: dict[str, object] | None,
    set_: list[str] | None,
    reward: str | None,
    method: str | None,
    seed: int | None,
    output: Path | None,
    resume: Path | None,
    threads: int | None,
) -> None:
    """Build the config, run, and print the table and where the report is."""
    from deattrib.cli.specs import optional_spec
    from deattrib.runs.config import build_config

    config = None
    if resume is None:
        config = build_config(
            path=path,
            data=data,
            overrides=set_ or [],
            reward=optional_spec(reward, option="--reward"),
            method=optional_spec(method, option="--method", kind="a method"),
            seed=seed,
        )
    quiet_libraries()
    import torch

    from deattrib.cli.show import Show, table
    from deattrib.models.launched import leads_in_environment
    from deattrib.runs.pipeline import run as pipeline
    from deattrib.runs.signals import exit_code

    if threads:
        torch.set_num_threads(threads)
    speaks = leads_in_environment()
    try:
        with Show() as show:
            result = pipeline(config, output=output, resume=resume, arguments=sys.argv[1:], listener=show)
    except KeyboardInterrupt as error:
        if speaks:
            typer.echo(str(error) or "interrupted", err=True)
        raise typer.Exit(exit_code(error)) from error
    if not speaks:
        return
    typer.echo(table(result.metrics))
    typer.echo(f"\nreport: {result.folder / 'report.html'}")


def quiet_libraries() -> None:
    """No progress bars and advice from the libraries below; their warnings stay."""
    import logging
    import os
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")  # read when it is loaded, which takes half a second
    # Busy-waiting threads take whole seconds from each other where processors are shared; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.filterwarnings("ignore", category=FutureWarning)
    import transformers

    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
