"""What else than weights and rows decides what is kept between runs: the code, and what a model's config says."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

import deattrib


@cache
def code_digest() -> str:
    """Hex digest of this package's modules and of deattrib's models: a working copy changes without a new version."""
    found = hashlib.sha256()
    for folder in (Path(__file__).parent, Path(deattrib.__file__).parent / "models"):
        for path in sorted(folder.glob("*.py")):
            found.update(f"{path.name} ".encode() + path.read_bytes())
    return found.hexdigest()


def settings_of(module: nn.Module) -> str:
    """A model's config as it would be saved, which says how positions are encoded, without where it came from."""
    config: Any = getattr(module, "config", None)
    if config is None:
        return ""
    plain = {name: value for name, value in config.to_dict().items() if name not in ("_name_or_path", "transformers_version")}
    return repr(sorted(plain.items()))
