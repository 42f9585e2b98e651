"""`deattrib check`: the contract of scorers without pytest; what failed, and what to mend."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deattrib.cli.plugins import clean

if TYPE_CHECKING:
    from deattrib.testing.report import ContractReport, Outcome

MARKS = {"passed": "ok  ", "failed": "FAIL", "skipped": "–   "}


def check(
    scorer: Annotated[
        str,
        typer.Argument(
            metavar="SCORER",
            help="A name (see `deattrib plugins`), FILE.py:Class or module:Class, with settings: min-k:share=0.1.",
        ),
    ],
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param", metavar="KEY=VALUE", help="A setting of the scorer, over those after colons; may be given several times."
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="How far apart equal results may be, as a share of the spread of the scores.")
    ] = 1e-3,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check a scorer against the contract that every scorer keeps; exit code 1 if it breaks it."""
    from deattrib.attribution.plugins import PluginRegistry
    from deattrib.cli.run import quiet_libraries

    scorer, params = named_and_set(scorer, param or [])
    PluginRegistry().make({"name": scorer, **params})  # a misspelt name is said before anything heavy is loaded
    quiet_libraries()
    from deattrib.testing.report import run_contract

    said: set[str] = set()

    def show(outcome: Outcome) -> None:
        if not as_json:
            typer.echo(line_of(outcome, said))

    report = run_contract(scorer, params=params, tolerance=tolerance, listener=show)
    typer.echo(json.dumps(as_plain(report), indent=2) if as_json else summary_of(report))
    if not report.passed:
        raise typer.Exit(1)


def named_and_set(text: str, items: list[str]) -> tuple[str, dict[str, Any]]:
    """A scorer's name and its settings: those after colons, --param over them. Raises ConfigError."""
    from deattrib.cli.specs import parse_spec

    spec = parse_spec(text, option="SCORER")
    settings = {} if isinstance(spec, str) else dict(spec)
    name = text if isinstance(spec, str) else settings.pop("name")
    return name, read_params(items, settings)


def read_params(items: list[str], below: dict[str, Any] | None = None) -> dict[str, Any]:
    """KEY=VALUE items as settings, over those `below`. Raises ConfigError."""
    from deattrib.errors import ConfigError
    from deattrib.runs.overrides import apply_overrides

    try:
        params = apply_overrides(below or {}, items)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--set", "--param")) from None
    if "name" in params:
        raise ConfigError("--param name=...: 'name' is no setting of a scorer; write the scorer's name after `check`.")
    return params


def as_plain(report: ContractReport) -> dict[str, Any]:
    """What --json prints: the report's fields, `passed`, and the cost in seconds (score and prefixes per row)."""
    return {"passed": report.passed, **dataclasses.asdict(report)}


def line_of(outcome: Outcome, said: set[str]) -> str:
    """One check in the listing; a message that an earlier check gave already is not repeated."""
    lines = [f"{MARKS[outcome.state]} {outcome.check}"]
    if outcome.state == "skipped":
        lines[0] += f"  ({clean(outcome.message)})"
    elif outcome.state == "failed":
        seen = outcome.message in said
        said.add(outcome.message)
        lines.append(_paragraph("expected: ", outcome.demands))
        lines.append(_paragraph("found:    ", "the same as above" if seen else outcome.message))
        lines.append(_paragraph("mend:     ", outcome.mend))
    return "\n".join(lines)


def summary_of(report: ContractReport) -> str:
    """The lines after the checks."""
    states = [outcome.state for outcome in report.outcomes]
    counts = f"{states.count('passed')} passed, {states.count('failed')} failed, {states.count('skipped')} do not apply"
    overrides = ", ".join(report.overrides) or "nothing"
    lines = ["", f"{report.scorer} ({clean(report.origin)}; fidelity {report.fidelity}; overrides {overrides})"]
    if report.cost is not None:
        lines.append(f"cost on the small model: {report.cost}")
    lines.append(f"{counts}: {'it keeps the contract' if report.passed else 'it breaks the contract'}")
    return "\n".join(lines)


def _paragraph(label: str, text: str) -> str:
    indent = " " * 7
    return textwrap.fill(label + clean(text), 110, initial_indent=indent, subsequent_indent=indent + " " * len(label),
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip
