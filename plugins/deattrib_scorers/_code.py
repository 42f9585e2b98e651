"""Which code this is, for what is kept between runs: a working copy changes without a new version."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def code_digest() -> str:
    """Hex digest of this package's modules."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(f"{path.name} ".encode() + path.read_bytes())
    return found.hexdigest()
