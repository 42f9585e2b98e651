"""What a made model is found by, and what is left behind by processes that were killed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.runs.tiny import TINY

from deattrib.corpus.settings import load_corpus
from deattrib.models.language_model import fingerprint
from deattrib.models.scratch import make_model
from deattrib.runs.config import build_config
from deattrib.runs.manifest import library_versions
from deattrib.runs.prepare import ModelMaker


def test_models_with_left_out_rows_have_keys_of_their_own_and_others_keep_theirs(tmp_path: Path) -> None:
    """By the content written out: neither plain models nor those of another division of the loss may be mixed up with them."""
    config = build_config(data=TINY)
    corpus = load_corpus(config.corpus, 0)
    maker = ModelMaker(corpus, config.model, 0, tmp_path, lambda text: None)
    base = make_model(config.model.scratch, maker.tokenizer, seed=0)
    plain = maker.job(base, corpus.train, "original", 0)
    without = maker.job(base, corpus.train, "without", 0, left_out=corpus.forget_owners)
    versions = library_versions()
    content = {
        "start": fingerprint(base),
        "rows": hashlib.sha256(json.dumps([(row.prompt, row.response) for row in plain.rows]).encode()).hexdigest(),
        "codec": maker.codec.fingerprint(),
        "device": "cpu",
        "recipe": plain.recipe.model_dump(mode="json"),
        "seed": 0,
        "versions": {name: versions[name] for name in ("torch", "transformers", "trl", "peft")},
    }

    def key(**more: object) -> str:
        return hashlib.sha256(json.dumps({**content, **more}, sort_keys=True).encode()).hexdigest()[:32]

    assert plain.folder.name == key()
    assert without.folder.name not in (key(), key(kept=without.kept))
    assert without.kept is not None and sum(without.kept) == len(corpus.retain) + len(without.rows) - len(corpus.train)
