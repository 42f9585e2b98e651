"""What `deattrib plugins` prints: one entry per scorer, metric, method, attack and observer, and why some cannot be used."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer


def render(listing: Sequence[Mapping[str, Any]], *, as_json: bool = False, width: int = 100) -> str:
    """The listing of `PluginRegistry.listing` as JSON, or as text for people.

    Args:
        width: columns of the terminal; lines are wrapped there, at 60 at least.

    Returns:
        Text without a final newline. Control characters from plugins' texts are shown as escapes.
    """
    if as_json:
        return json.dumps(list(listing), indent=2)
    if not listing:
        return "No plugin is installed."
    columns = ("name", "kind", "fidelity", "state", "from")
    rows = [_cells(entry) for entry in listing]
    widths = [max(len(column), *(len(row[i]) for row in rows)) for i, column in enumerate(columns)]
    lines = [_line(columns, widths)]
    for entry, row in zip(listing, rows, strict=True):
        lines.append(_line(row, widths))
        for label, text in _details(entry):
            lines += _wrapped(label, text, max(width, 60))
    return "\n".join(lines)


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    source = " ".join(part for part in (entry["distribution"], entry["version"]) if part)
    return tuple(clean(text) for text in (entry["name"], entry["kind"], entry["fidelity"] or "-", entry["state"], source))


def _details(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    free = "owner_free: the same score whoever is asked about" if entry["owner_free"] else ""
    found = [("", entry["summary"]), ("", free), ("overrides ", ", ".join(entry["overrides"]))]
    found.append(("needs ", ", ".join(entry["needs"])))
    if entry["state"] != "ready":
        found.append((f"{entry['state']}: ", entry["reason"]))
    return [(label, clean(text)) for label, text in found if text]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _wrapped(label: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(label + text, width, initial_indent="    ", subsequent_indent="      ", break_long_words=False,
                         break_on_hyphens=False)  # fmt: skip


def clean(text: Any) -> str:
    """One line without control or direction characters: what plugins say cannot change the terminal."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in " ".join(str(text).split()))


def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List what is installed: scorers, metrics, methods, attacks; what each can do; and why some cannot be used."""
    from deattrib.attribution.plugins import PluginRegistry

    typer.echo(render(PluginRegistry().listing(), as_json=as_json, width=shutil.get_terminal_size().columns))
