"""What must be the same before a run is gone on with."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runs.tiny import TINY
from torch import nn

from deattrib.corpus.settings import load_corpus
from deattrib.errors import RunError
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.runs.checkpoint import save_checkpoint
from deattrib.runs.config import build_config
from deattrib.runs.folder import RunFolder, read_manifest
from deattrib.runs.identity import check_config, check_identity, check_loaded, registry_of, run_identity
from deattrib.runs.prepare import Models

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


def identity(**changes: Any) -> dict[str, Any]:
    config = build_config(data={**TINY, **changes})
    return run_identity(config, load_corpus(config.corpus, config.seed), registry_of(config))


def test_it_goes_into_the_manifest_and_the_same_is_let_through(tmp_path: Path) -> None:
    with create(tmp_path / "run", a=1) as folder:
        told = identity()
        assert check_identity(folder, told) == []
    stored = read_manifest(tmp_path / "run")["fingerprints"]
    assert stored["corpus"] == told["corpus"] and stored["plugins"]["deattrib"] and "config" in stored
    with RunFolder.open(tmp_path / "run") as folder:
        assert check_identity(folder, told) == []


def test_another_corpus_shows_what_differs(tmp_path: Path) -> None:
    with create(tmp_path / "run", a=1) as folder:
        check_identity(folder, identity())
        with pytest.raises(RunError, match="other corpus or plugins") as caught:
            check_identity(folder, identity(corpus={**TINY["corpus"], "facts": 3}))
    assert "corpus: '" in str(caught.value) and "rows: 32 -> 24" in str(caught.value)


def test_the_code_of_a_scorer_from_a_file_counts(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SCORER.format(value=1.0))
    first = identity(reward=f"{file}:Mine")
    assert first["classes"]["mine"].startswith("mine.py sha256:") and str(tmp_path) not in json.dumps(first)
    with create(tmp_path / "run", a=1) as folder:
        check_identity(folder, first)
        file.write_text(SCORER.format(value=2.0))
        with pytest.raises(RunError, match=r"classes.mine: 'mine.py sha256:\w+' -> 'mine.py sha256:\w+'"):
            check_identity(folder, identity(reward=f"{file}:Mine"))


def test_every_scorer_of_a_run_counts_also_those_inside_others(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.py" for name in ("inner", "judge", "beside")]
    for number, file in enumerate(files):
        file.write_text(SCORER.format(value=float(number)))
    inner, judge, beside = (f"{file}:Mine" for file in files)
    told = identity(
        reward=[{"name": "shuffled-owner", "scorer": inner}, "classifier"],
        referee={"scorer": {"name": judge}},
        evaluation={**TINY.get("evaluation", {}), "attribution": [beside]},
    )["classes"]
    assert set(told) == {"shuffled-owner", "classifier", "mine", "mine#2", "mine#3", "method"}
    assert [told[name].split(" ")[0] for name in ("mine", "mine#2", "mine#3")] == ["inner.py", "judge.py", "beside.py"]


def test_other_models_at_the_same_place_are_refused(tmp_path: Path, tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    config = build_config(data={**TINY, "model": {"path": "original", "base": "base"}})
    original, other = LanguageModel(tiny_llama, tiny_codec), LanguageModel(copy.deepcopy(tiny_llama), tiny_codec)
    next(other.model.parameters()).data.mul_(2)
    models = Models(tiny_codec, original, original, None, None, {"original": "one"})
    with create(tmp_path / "run", a=1) as folder:
        check_loaded(folder, config, models, add=False)
        assert "loaded" not in folder.manifest["fingerprints"]
        check_loaded(folder, config, models)
        check_loaded(folder, config, models)
        check_loaded(folder, build_config(data=TINY), replace(models, weights={"original": "made"}))  # made, not loaded
        for changed, what in (
            (replace(models, weights={"original": "two"}), "original: 'one' -> 'two'"),
            (replace(models, base=other), "base: '"),
            (replace(models, codec=Codec(tiny_codec.tokenizer, template="Q: {prompt}")), "tokenizer: '"),
        ):
            with pytest.raises(RunError, match=f"other models, so it cannot be resumed:\n  {what}"):
                check_loaded(folder, config, changed)
    with RunFolder.open(tmp_path / "run") as folder, pytest.raises(RunError, match="other models"):
        check_loaded(folder, config, replace(models, weights={"original": "two"}))


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
