"""Saving what was trained: a folder that is there whole, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from deattrib.errors import RunError
from deattrib.runs.atomic import TEMPORARY_PREFIX, cannot_write, flush_folder


def save_adapter(policy: Any, path: Path) -> None:
    """The adapter in PEFT's format (or the whole model, where all weights were trained), with the tokenizer.

    Written beside its place and renamed; an older folder of that name is replaced.

    Raises:
        RunError: the disk refuses, naming the file or the folder; what was there before is intact.
    """
    from safetensors import SafetensorError

    staging = path.parent / f"{TEMPORARY_PREFIX}{path.name}-{secrets.token_hex(4)}"
    grave = path.parent / f"{TEMPORARY_PREFIX}removed-{secrets.token_hex(4)}"
    chosen = {} if policy.settings.adapter == "full" else {"selected_adapters": ["default"]}
    try:
        staging.mkdir()
        policy.backbone.save_pretrained(staging, safe_serialization=True, **chosen)
        policy.codec.tokenizer.save_pretrained(staging)
        _flush(staging)
        if path.exists():
            path.rename(grave)
        staging.rename(path)
        flush_folder(path.parent)
    except BaseException as error:
        if grave.exists() and not path.exists():
            grave.rename(path)
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, OSError):
            named = str(error.filename or path).replace(str(staging), str(path))
            raise cannot_write(Path(named), error) from error
        if isinstance(error, SafetensorError):  # its own wrapping of what the system said
            raise RunError(f"Cannot write {path}: {error}. Is the disk full?") from error
        raise
    shutil.rmtree(grave, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Down to the disk, file by file: the libraries that wrote them do not."""
    for file in folder.rglob("*"):
        if file.is_file():
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())
    flush_folder(folder)
