"""Names by content: a hash of everything that something was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deattrib.runs.manifest import library_versions

if TYPE_CHECKING:
    from deattrib.models.language_model import LanguageModel

DECIDING = ("deattrib", "torch", "transformers", "peft")  # libraries that decide what a frozen model gives


def digest_of(plain: Mapping[str, Any]) -> str:
    """Hex digest of plain values, as they are in JSON or in config.yaml."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def cache_key(content: Mapping[str, Any], model: LanguageModel) -> str:
    """32 hex digits for what was asked of a frozen model: `content` with codec, kind of device and library versions."""
    versions = library_versions()
    about = {
        "codec": model.codec.fingerprint(),
        "device": model.device.type,
        "versions": {name: versions[name] for name in DECIDING},
    }
    return digest_of({**content, **about})[:32]
