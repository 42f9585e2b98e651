"""One way of reading the JSON that a run leaves: whole, an object, or refused with what is wrong and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deattrib.errors import RunError


def read_object(path: Path, *, hint: str = "") -> dict[str, Any]:
    """The JSON object in a file of a run folder.

    Args:
        hint: what to ask oneself where it cannot be read; ends the message.

    Raises:
        RunError: missing or unreadable, no JSON in UTF-8, nested too deeply, or no object.
    """
    try:
        value = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror}.{hint}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is not JSON ({error}); the run folder is damaged.") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a JSON object, got a {type(value).__name__}; the run folder is damaged.")
    return value
