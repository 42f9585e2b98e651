"""`deattrib doctor`: what this installation has, what it lacks, and whether it can do the main job."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from deattrib.cli.plugins import clean


def doctor(
    no_self_test: Annotated[bool, typer.Option("--no-self-test", help="Only look; leave out the tiny run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Look at versions, optional parts, devices, cache and plugins, and do a tiny run; exit code 1 if something is wrong."""
    from deattrib.cli.run import quiet_libraries
    from deattrib.runs.doctor import examine
    from deattrib.runs.self_test import self_test

    quiet_libraries()
    report = examine()
    if not as_json:
        typer.echo("\n".join(lines_of(report)))
    if not no_self_test:
        report["self_test"] = self_test(lambda name: None if as_json else typer.echo(f"self-test   {name}"))
        for stage in report["self_test"]["stages"]:
            if stage["error"]:
                report["problems"].append(f"The self-test failed at {stage['name']!r}: {stage['error']}")
    typer.echo(json.dumps(report, indent=2) if as_json else verdict(report))
    if report["problems"]:
        raise typer.Exit(1)


def lines_of(report: dict[str, Any]) -> list[str]:
    """What `examine` found, for people."""
    threads, cache, plugins = report["threads"], report["cache"], report["plugins"]
    shown = {
        "python": f"{report['python']} on {report['platform']}",
        "versions": ", ".join(f"{name} {version or 'MISSING'}" for name, version in report["versions"].items()),
        "devices": ", ".join([*report["devices"], "cpu"]) + f"; a run takes {report['device']}",
        "threads": f"{threads['torch']} for one operation, {threads['allowed']} of {threads['processors']} processors allowed",
        "variables": ", ".join(f"{name}={value}" for name, value in report["variables"].items()) or "none set",
        "cache": f"{cache['folder']}: {size(cache['bytes'])} in {cache['files']} files, {size(cache['free_bytes'])} free",
        "plugins": ", ".join(f"{count} {kind}s" for kind, count in plugins["ready"].items()) or "none",
    }
    lines = [f"{name:11s} {clean(text)}" for name, text in shown.items()]
    for name, lacking in report["extras"].items():
        text = f'lacks {", ".join(lacking)}: pip install "deattrib[{name}]"' if lacking else "complete"
        lines.append(f"{'optional':11s} {name}: {text}")
    lines += [f"{'not loaded':11s} {clean(entry['name'])}: {clean(entry['reason'])}" for entry in plugins["failed"]]
    return lines


def verdict(report: dict[str, Any]) -> str:
    """The last lines: what is wrong, or that nothing is."""
    if report["problems"]:
        return "\n".join(f"PROBLEM     {clean(problem)}" for problem in report["problems"])
    if "self_test" not in report:
        return "nothing wrong is in sight; the self-test was left out"
    return f"all is well; the self-test took {report['self_test']['seconds']:.0f} s"


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
