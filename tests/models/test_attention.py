"""`model.attention`: transformers' implementations say the same, and every model of a run has the one that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runs.tiny import TINY
from torch import nn

from deattrib import ConfigError, build_config, load_corpus, prepare_models
from deattrib.models.forward import response_logits
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.loading import load_model, save_model
from deattrib.models.settings import ModelSettings


def test_the_same_logits_and_answers_whichever_it_is(tmp_path: Path, tiny_model: nn.Module, tiny_codec: Codec) -> None:
    save_model(tiny_model, tiny_codec.tokenizer, tmp_path)
    prompts = ["Who?", "In which place did it all begin?"]
    batch = tiny_codec.encode(prompts, ["Nobody knows.", "In Mirren."])
    found: list[Any] = []
    for name in ("sdpa", "eager"):
        model: Any = load_model(str(tmp_path), ModelSettings(attention=name))
        assert model.config._attn_implementation == name
        with torch.no_grad():
            logits, _ = response_logits(model, batch)
        found.append((logits[batch.response_mask], LanguageModel(model, tiny_codec).generate(prompts, max_new_tokens=8)))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-4) and found[0][1] == found[1][1]


def test_models_that_are_made_have_it_too(tmp_path: Path) -> None:
    config = build_config(data={**TINY, "model": {**TINY["model"], "attention": "eager", "oracles": 1}})
    corpus = load_corpus(config.corpus, 0)
    for models in (prepare_models(corpus, config.model, cache=tmp_path) for _ in range(2)):  # trained, then from the cache
        for one in (models.base, models.original, models.oracle):
            assert one is not None and one.model.config._attn_implementation == "eager"  # type: ignore[union-attr]


def test_kernels_of_the_hub_are_code_of_strangers_and_no_choice() -> None:
    with pytest.raises(ConfigError, match=r"model\.attention"):
        build_config(data={"model": {"attention": "kernels-community/flash-attn"}})
