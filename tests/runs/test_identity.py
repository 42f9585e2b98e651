"""What must be the same before a run is gone on with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runs.tiny import TINY

from deattrib.corpus.settings import load_corpus
from deattrib.errors import RunError
from deattrib.runs.checkpoint import save_checkpoint
from deattrib.runs.config import build_config
from deattrib.runs.folder import RunFolder, read_manifest
from deattrib.runs.identity import check_config, check_identity, check_weights, registry_of, run_identity

SCORER = """
from deattrib import Scorer
class Mine(Scorer):
    name = "mine"
    def score(self, rows):
        return [{value}] * len(rows)
"""


def create(path: Path, **config: Any) -> RunFolder:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    return RunFolder.create(path, config, seeds={"run": 0}, fingerprints={"config": digest})


def identity(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    config = build_config(data={**TINY, **changes})
    return run_identity(config, load_corpus(config.corpus, config.seed), registry_of(config))


def test_it_goes_into_the_manifest_and_the_same_is_let_through(tmp_path: Path) -> None:
    with create(tmp_path / "run", a=1) as folder:
        told = identity(tmp_path)
        assert check_identity(folder, told) == []
    stored = read_manifest(tmp_path / "run")["fingerprints"]
    assert stored["corpus"] == told["corpus"] and stored["plugins"]["deattrib"] and "config" in stored
    with RunFolder.open(tmp_path / "run") as folder:
        assert check_identity(folder, told) == []


def test_another_corpus_shows_what_differs(tmp_path: Path) -> None:
    with create(tmp_path / "run", a=1) as folder:
        check_identity(folder, identity(tmp_path))
        with pytest.raises(RunError, match="other corpus or plugins") as caught:
            check_identity(folder, identity(tmp_path, corpus={**TINY["corpus"], "facts": 3}))
    assert "corpus: '" in str(caught.value) and "rows: 32 -> 24" in str(caught.value)


def test_the_code_of_a_scorer_from_a_file_counts(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SCORER.format(value=1.0))
    first = identity(tmp_path, reward=f"{file}:Mine")
    assert first["classes"]["mine"].startswith("mine.py sha256:") and str(tmp_path) not in json.dumps(first)
    with create(tmp_path / "run", a=1) as folder:
        check_identity(folder, first)
        file.write_text(SCORER.format(value=2.0))
        with pytest.raises(RunError, match=r"classes.mine: 'mine.py sha256:\w+' -> 'mine.py sha256:\w+'"):
            check_identity(folder, identity(tmp_path, reward=f"{file}:Mine"))


def test_other_weights_at_the_same_place_are_refused(tmp_path: Path) -> None:
    with create(tmp_path / "run", a=1) as folder:
        check_weights(folder, "one")
        check_weights(folder, "one")
        with pytest.raises(RunError, match=r"other weights of the original model[^\n]*\n  original: 'one' -> 'two'"):
            check_weights(folder, "two")
    with RunFolder.open(tmp_path / "run") as folder, pytest.raises(RunError, match="weights"):
        check_weights(folder, "two")


def test_other_library_versions_are_told(tmp_path: Path) -> None:
    with create(tmp_path / "run", a=1) as folder:
        folder.manifest["versions"]["torch"] = "1.0"
        (message,) = check_identity(folder, {"corpus": "x"})
    assert f"torch '1.0' -> '{torch.__version__}'" in message and "last digits" in message


def test_a_config_changed_by_hand_is_refused_and_the_change_shown(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with create(path, a=1, ppo={"steps": 4}) as folder:
        check_config(folder)
    (path / "config.yaml").write_text("a: 1\nppo: {steps: 5}\n")
    with RunFolder.open(path) as folder, pytest.raises(RunError, match=r"config\.yaml is not what the run was started with"):
        check_config(folder)
    save_checkpoint(path / "checkpoints", 2, {"config": {"a": 1, "ppo": {"steps": 4}}}, keep=1)
    with RunFolder.open(path) as folder, pytest.raises(RunError, match=r"ppo\.steps: 4 -> 5"):
        check_config(folder)
