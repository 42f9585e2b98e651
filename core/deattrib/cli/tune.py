"""`deattrib tune`: settings of one method at a stated budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deattrib.cli.compare import (
    Executor,
    ExecutorSet,
    Jobs,
    Seeds,
    executor_of,
    settings_of,
    told_when_interrupted,
    whole_numbers,
)
from deattrib.cli.run import Reward, Set, quiet_libraries
from deattrib.cli.specs import parse_spec


def tune(
    method: Annotated[str, typer.Argument(help="A method's name, with settings that stay after colons: npo:retain=kl.")],
    target: Annotated[str, typer.Argument(help="A config file, or 'demo'.")] = "demo",
    budget: Annotated[int, typer.Option(min=1, help="Runs in all, over trials and seeds; give every method the same.")] = 16,
    seeds: Seeds = "100,101",
    reported: Annotated[str, typer.Option(help="Seeds that results are reported on: refused here.")] = "0,1,2",
    set_: Set = None,
    reward: Reward = None,
    output: Annotated[Path, typer.Option(help="Folder; `deattrib compare --tuned` takes it. What is there is used.")] = Path(
        "tuned"
    ),
    jobs: Jobs = 1,
    executor: Executor = "processes",
    executor_set: ExecutorSet = None,
) -> None:
    """Search learning rate, steps and a method's own weights by the score, on seeds that are never reported."""
    base = settings_of(target, set_ or [])
    if reward is not None:
        base["reward"] = parse_spec(reward, option="--reward")
    numbers, others = whole_numbers(seeds, "--seeds"), whole_numbers(reported, "--reported")
    quiet_libraries()
    from deattrib.runs.prepare import cache_folder
    from deattrib.runs.tuning import tune as carry_out

    with told_when_interrupted():
        best = carry_out(
            base,
            parse_spec(method, option="METHOD", kind="a method"),
            budget=budget,
            seeds=numbers,
            reported=others,
            output=output,
            cache=cache_folder(),
            jobs=jobs,
            executor=executor_of(executor, executor_set),
            say=lambda text: typer.echo(text, err=True),
        )
    for name, value in best.settings.items():
        typer.echo(f"{name:30s} {value}")
    if not best.settings:
        typer.echo("the config as it stands")
    if best.collapsed:
        typer.echo(f"\nno trial did better than this one, which collapsed too: {best.collapsed}")
    typer.echo(f"\nscore {best.score:.3f} over {len(best.seeds)} seeds, {best.runs} runs: {output / f'{best.method}.yaml'}")
