"""`model.attention`: transformers' implementations say the same; base, original and oracles have the one that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runs.tiny import TINY
from torch import nn

from deattrib import ConfigError, ModelError, build_config, load_corpus, prepare_models
from deattrib.models.forward import response_logits
from deattrib.models.language_model import Codec, LanguageModel, fingerprint
from deattrib.models.loading import load_model, save_model
from deattrib.models.scratch import make_model
from deattrib.models.settings import ModelSettings
from deattrib.runs.maker import ModelMaker


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


def test_models_and_what_they_said_are_kept_apart_by_it(tmp_path: Path, tiny_model: nn.Module, tiny_codec: Codec) -> None:
    config = build_config(data=TINY)
    corpus = load_corpus(config.corpus, 0)
    folders = []
    for name in (None, "sdpa", "eager"):
        maker = ModelMaker(corpus, config.model.model_copy(update={"attention": name}), 0, tmp_path, lambda text: None)
        start: Any = make_model(config.model.scratch, maker.tokenizer, seed=0)
        if name:
            start.set_attn_implementation(name)
        folders.append(maker.job(start, corpus.train, "original", 0).folder)
    assert folders[0] == folders[1] != folders[2]  # sdpa is what transformers takes by itself
    save_model(tiny_model, tiny_codec.tokenizer, tmp_path / "model")
    loaded = [load_model(str(tmp_path / "model"), ModelSettings(attention=name)) for name in (None, "sdpa", "eager")]
    digests = [fingerprint(model) for model in loaded]
    assert digests[0] == digests[1] == fingerprint(tiny_model) != digests[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "flash_attention_2"}, "take dtype: bfloat16"),
        ({"attention": "flash_attention_2", "dtype": "bfloat16"}, r"training\.bf16: true"),
    ],
)
def test_flash_in_32_bits_is_refused_before_anything_is_loaded(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config(data={"model": settings})
    given = {**settings, "dtype": "bfloat16", "training": {"lora_rank": 8}}
    assert build_config(data={"model": given}).model.attention == "flash_attention_2"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there it works")
def test_an_implementation_that_is_not_there_is_named(tmp_path: Path) -> None:
    model = {**TINY["model"], "attention": "flash_attention_2", "dtype": "bfloat16"}
    config = build_config(data={**TINY, "model": {**model, "training": {**model["training"], "bf16": True}}})
    with pytest.raises(ModelError, match=r"given that attention.*FlashAttention2"):
        ModelMaker(load_corpus(config.corpus, 0), config.model, 0, tmp_path, lambda text: None).base()


def test_kernels_of_the_hub_are_code_of_strangers_and_no_choice() -> None:
    with pytest.raises(ConfigError, match=r"model\.attention"):
        build_config(data={"model": {"attention": "kernels-community/flash-attn"}})
