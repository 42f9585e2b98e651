"""What `deattrib run --dry-run` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer


def show(
    path: Path,
    *,
    set_: list[str] | None,
    reward: str | None,
    method: str | None,
    seed: int | None,
    threads: int | None,
    on: str | None,
    as_json: bool,
) -> None:
    """Build the config as `run` does, and print what the run would take."""
    from deattrib.cli.run import quiet_libraries
    from deattrib.cli.specs import optional_spec
    from deattrib.runs.config import build_config

    config = build_config(
        path=path,
        overrides=set_ or [],
        reward=optional_spec(reward, option="--reward"),
        method=optional_spec(method, option="--method", kind="a method"),
        seed=seed,
    )
    quiet_libraries()
    import torch

    from deattrib.runs.dry_run import dry_run

    if threads:
        torch.set_num_threads(threads)
    plan = dry_run(config, on=on)
    typer.echo(json.dumps(plan, indent=2, ensure_ascii=False) if as_json else "\n".join(lines(plan)))


def lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """The plan as text."""
    what = f"preset {plan['preset']}, {plan['method']}, reward {plan['reward']}"
    yield f"dry run of {plan['name']!r} ({what}): nothing is written"
    corpus = plan["corpus"]
    yield from _section("corpus")
    yield f"  {corpus['name']}: {corpus['owners']} owners, {corpus['rows']} rows, {corpus['world_rows']} world questions"
    yield f"  to forget: {corpus['forget_owners']} owners, {corpus['forget_rows']} rows"
    yield (
        f"  tokens: {corpus['prompt_tokens']} a prompt, {corpus['response_tokens']} an answer, longest "
        f"{corpus['longest_response']} ({corpus['tokens_counted']})"
    )
    if plan["parameters"] is not None:
        yield from _model(plan)
    yield from _steps(plan["steps"])
    if plan["memory"] is not None:
        yield from _memory(plan["memory"])
    if plan["time"] is not None:
        yield from _time(plan["time"])
    yield from _section("left open by the paper, and taken here")
    for item in plan["open"]:
        taken = item["taken"]
        told = ", ".join(f"{k} = {json.dumps(v)}" for k, v in taken.items()) if isinstance(taken, Mapping) else taken
        yield f"  {item['question']}: {told}"
    yield from _section("notes")
    yield from (f"  {note}" for note in plan["notes"])


def _section(title: str) -> tuple[str, str]:
    return "", title


def _model(plan: Mapping[str, Any]) -> Iterator[str]:
    model, counts = plan["model"], plan["parameters"]
    yield from _section("model")
    yield f"  {model['source']}"
    yield f"  {model['layers']} layers of width {model['hidden']}, {model['vocabulary']:,} words, {model['dtype']}"
    yield f"  parameters: {counts['frozen']:,} frozen, {counts['trainable']:,} trainable"
    parts = {"adapter" if counts["frozen"] else "backbone": "adapter", "value head": "value_head", "critic": "critic"}
    yield "  trainable: " + ", ".join(f"{counts[key]:,} {name}" for name, key in parts.items() if counts[key])


def _steps(steps: Mapping[str, Any]) -> Iterator[str]:
    yield from _section("steps")
    yield f"  unlearning: {steps['unlearn']} steps, {steps['updates']} updates, {steps['rollouts']} responses sampled"
    if steps["models_made"]:
        yield f"  models to make: {steps['models_made']}, {steps['steps_per_model']} optimiser steps each"
    else:
        yield "  models to make: none"


def _memory(memory: Mapping[str, Any]) -> Iterator[str]:
    yield from _section("memory (GB, estimated)")
    for name, value in memory["parts_gb"].items():
        if value:
            yield f"  {name:42s}{value:10.3f}"
    yield f"  {'in the loop':42s}{memory['loop_gb']:10.3f}"
    yield f"  {'at its highest':42s}{memory['peak_gb']:10.3f}"


def _time(time: Mapping[str, Any]) -> Iterator[str]:
    yield from _section("time (estimated from the count of arithmetic and of bytes read)")
    yield f"  on {time['device']}; {time['reached']:.0%} of it reached"
    for name, seconds in time["stages_seconds"].items():
        yield f"  {name:42s}{_duration(seconds):>10s}"
    yield f"  {'all':42s}{_duration(time['total_seconds']):>10s}   ({time['step_seconds']:.2f} s a step of unlearning)"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
