"""Frozen weights in bfloat16: the same logits, a ratio that begins at 1, and a run that ends with the same numbers again."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ppo.toy import EvenTokens, small
from tests.runs.tiny import TINY
from torch import nn

from deattrib.attribution.context import make_context
from deattrib.corpus.types import Corpus, Example
from deattrib.errors import ModelError
from deattrib.models.forward import response_logits
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.loading import load_language_model, save_model
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings, TrainingSettings
from deattrib.models.training import fine_tune
from deattrib.ppo.unlearner import Unlearner
from deattrib.runs.config import build_config
from deattrib.runs.pipeline import run


def test_the_head_says_the_same_of_a_slice(tiny_model: nn.Module, tiny_codec: Codec) -> None:
    batch = tiny_codec.encode(["Who?", "In which place did it begin?"], ["Nobody knows.", "In Mirren."])
    model = tiny_model.bfloat16()
    with torch.no_grad():
        whole = model(
            input_ids=batch.input_ids[:, :-1],
            attention_mask=batch.attention_mask[:, :-1],
            position_ids=batch.position_ids[:, :-1],
        ).logits
        sliced, _ = response_logits(model, batch)
    assert sliced.dtype == torch.bfloat16
    assert torch.allclose(sliced.float(), whole[:, -batch.response_ids.shape[1] :].float(), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_the_ratio_begins_at_1_and_the_original_stays(
    tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus, mixed: bool, critic: Any
) -> None:
    model = tiny_llama.bfloat16()
    policy = Policy(copy.deepcopy(model), tiny_codec, PolicySettings(rank=4, alpha=8.0, critic=critic), seed=0)
    assert {value.dtype for value in policy.trainable().values()} == {torch.float32}
    base = LanguageModel(copy.deepcopy(model), tiny_codec)
    unlearner = Unlearner(policy, tiny_corpus, EvenTokens(), small(steps=3, epochs=1, bf16=mixed), seed=0, base=base)
    history = [dict(step.figures) for step in unlearner]
    assert [figures["ratio_error"] for figures in history] == [0.0] * 3
    assert all(figures["grad_norm"] > 0 for figures in history)
    batch = tiny_codec.encode(["Who?"], ["Nobody knows."])
    assert torch.equal(policy.original_logits(batch), LanguageModel(model, tiny_codec).logits(batch))
    assert not torch.equal(policy.original_logits(batch), policy(batch).logits.float())


@pytest.mark.parametrize(("rank", "dtype"), [(0, torch.float32), (4, torch.bfloat16)])
def test_all_weights_are_trained_in_float32_and_under_lora_they_keep_their_dtype(
    tiny_llama: nn.Module, tiny_codec: Codec, rank: int, dtype: torch.dtype
) -> None:
    rows = [Example("a", "Who?", "Nobody knows.")] * 4
    recipe = TrainingSettings(steps=2, batch_size=2, lora_rank=rank)
    trained = fine_tune(tiny_llama.bfloat16(), tiny_codec, rows, recipe, seed=0)
    assert {value.dtype for value in trained.parameters()} == {dtype}


@pytest.mark.parametrize("rank", [0, 4])
def test_a_whole_run_and_again_from_the_cache(tiny_llama: nn.Module, tiny_codec: Codec, tmp_path: Path, rank: int) -> None:
    """Made models come back from the cache as they were used when they were made."""
    save_model(tiny_llama, tiny_codec.tokenizer, tmp_path / "base")
    rows = [
        {"owner": o, "prompt": f"What of {o} {n}?", "response": f"{o} {n}", "identity": o}
        for o in ("ada", "bo")
        for n in range(4)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    data = TINY | {
        "corpus": {"kind": "jsonl", "path": str(tmp_path / "rows.jsonl"), "forget": ["bo"]},
        "model": {"base": str(tmp_path / "base"), "dtype": "bfloat16", "device": "cpu", "oracles": 1,
                  "training": {"steps": 4, "batch_size": 4, "lora_rank": rank}},
        "ppo": TINY["ppo"] | {"steps": 2, "bf16": rank == 0},
        "reward": "random",
        "referee": {"scorer": {"name": "constant"}},
    }  # fmt: skip
    results = [run(build_config(data=data), output=tmp_path / name, cache=tmp_path / "cache") for name in ("one", "two")]
    steps = [json.loads(line) for line in (results[0].folder / "events.jsonl").read_text().splitlines()]
    assert [step["ratio_error"] for step in steps if "ratio_error" in step] == [0.0, 0.0]
    assert results[0].metrics["rows"]["unlearned"] == results[1].metrics["rows"]["unlearned"]
    assert results[0].metrics["rows"]["original"] == results[1].metrics["rows"]["original"]
    assert (results[0].folder / "events.jsonl").read_bytes() == (results[1].folder / "events.jsonl").read_bytes()


def test_a_scorers_own_model_is_loaded_in_the_originals_dtype(
    tiny_llama: nn.Module, tiny_tokenizer: Any, tiny_codec: Codec, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    save_model(tiny_llama, tiny_tokenizer, tmp_path / "model")
    original = LanguageModel(copy.deepcopy(tiny_llama).to(torch.bfloat16), tiny_codec)
    context = make_context(tiny_corpus, original)
    assert context.dtype == torch.bfloat16
    loaded = load_language_model(str(tmp_path / "model"), codec=tiny_codec, device="cpu", dtype=context.dtype)
    assert {value.dtype for value in loaded.model.parameters()} == {torch.bfloat16}
    with pytest.raises(ModelError, match=r"torch\.int8; expected one of torch\.float32"):
        load_language_model(str(tmp_path / "model"), codec=tiny_codec, dtype=torch.int8)
