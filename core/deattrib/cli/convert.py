"""`deattrib convert`: a GGUF file, an adapter or a model of the hub into a folder of plain weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[str, typer.Argument(help="A GGUF file, a folder (also of a PEFT adapter), or a hub id.")],
    folder: Annotated[Path, typer.Argument(help="Where to; a model that is there already stays as it is.")],
    gguf: Annotated[str | None, typer.Option(help="Name of the GGUF file inside SOURCE.")] = None,
    dtype: Annotated[str, typer.Option(help="Of the weights written: float32, bfloat16 or float16.")] = "float32",
) -> None:
    """Write a model once as plain weights, for `model.path` and `model.base`: GGUF files and adapters then load fast."""
    from deattrib.cli.run import quiet_libraries
    from deattrib.models.settings import ModelSettings
    from deattrib.runs.convert import convert as carry_out
    from deattrib.runs.validation import validate

    settings = validate(ModelSettings, {"gguf_file": gguf, "dtype": dtype}, source="deattrib convert")
    quiet_libraries()
    written = carry_out(source, folder, settings)
    typer.echo(f"written: {folder}" if written else f"{folder} holds a model already; nothing done.")
