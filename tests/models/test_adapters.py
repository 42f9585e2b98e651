"""A model whose knowledge sits in an adapter: it is the original, whatever is trained on top and wherever that is loaded."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deattrib.errors import ModelError
from deattrib.models.batch import TokenBatch
from deattrib.models.forward import response_logits
from deattrib.models.language_model import Codec, fingerprint
from deattrib.models.loading import apply_adapter, load_model, load_tokenizer, model_below, save_model
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib.models.settings import ModelSettings
from deattrib.runs.convert import convert
from deattrib.runs.outcome import save_adapter

CPU = ModelSettings(device="cpu")


@pytest.fixture
def batch(tiny_codec: Codec) -> TokenBatch:
    return tiny_codec.encode(["Who?", "In which place did it begin?"], ["Nobody knows.", "In Mirren."])


@pytest.fixture
def folders(tmp_path: Path, tiny_llama: nn.Module, tiny_codec: Codec, batch: TokenBatch) -> tuple[Path, Path, torch.Tensor]:
    """The base model, an adapter on it that changes a lot, and what peft says of the two together, unmerged."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base, adapter = tmp_path / "base", tmp_path / "adapter"
    save_model(tiny_llama, tiny_codec.tokenizer, base)
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    trained: Any = get_peft_model(model, LoraConfig(r=3, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in trained.named_parameters():
            if "lora_" in name:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    trained.save_pretrained(adapter)
    again: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    with torch.no_grad():
        return base, adapter, response_logits(again.eval(), batch)[0]


def logits(model: nn.Module, batch: TokenBatch) -> torch.Tensor:
    with torch.no_grad():
        return response_logits(model, batch)[0]


def close(left: torch.Tensor, right: torch.Tensor) -> bool:
    return torch.allclose(left, right, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_policy_starts_as_the_adapted_model_and_leaves_it_alone(
    folders: tuple[Path, Path, torch.Tensor], batch: TokenBatch, tiny_codec: Codec, nudge: Callable[[Any], None], kind: Any
) -> None:
    base, adapter, expected = folders
    model = load_model(str(adapter), CPU)
    assert not any("lora" in name for name in model.state_dict())
    before = fingerprint(model)
    policy = Policy(model, tiny_codec, PolicySettings(adapter=kind, rank=4, alpha=8.0), seed=0)
    first = policy(batch).logits.detach()
    assert close(first, expected)
    assert torch.equal(policy.original_logits(batch), first)
    assert not close(first, logits(load_model(str(base), CPU), batch))  # the knowledge is in the adapter
    policy.remember()
    nudge(policy)
    assert not close(policy(batch).logits, expected)
    assert torch.equal(policy.original_logits(batch), first) and torch.equal(policy.old_logits(batch), first)
    assert fingerprint(policy.original().clone()) == before


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_what_is_saved_loads_on_top_of_what_it_was_trained_on(
    folders: tuple[Path, Path, torch.Tensor],
    batch: TokenBatch,
    tiny_codec: Codec,
    nudge: Callable[[Any], None],
    tmp_path: Path,
    kind: Any,
) -> None:
    base, adapter, _ = folders
    policy = Policy(load_model(str(adapter), CPU), tiny_codec, PolicySettings(adapter=kind, rank=4, alpha=8.0), seed=0)
    nudge(policy)
    save_adapter(policy, tmp_path / "unlearned")
    expected = policy.language_model().logits(batch)
    assert close(logits(load_model(str(tmp_path / "unlearned"), CPU), batch), expected)
    assert len(load_tokenizer(str(tmp_path / "unlearned"), CPU)) == len(tiny_codec.tokenizer)
    if kind == "lora":
        named = json.loads((tmp_path / "unlearned" / "adapter_config.json").read_text())["base_model_name_or_path"]
        assert Path(named) == adapter.resolve()
        assert model_below(str(tmp_path / "unlearned")) == str(base)
    assert convert(str(tmp_path / "unlearned"), tmp_path / "plain", CPU)
    assert close(logits(load_model(str(tmp_path / "plain"), CPU), batch), expected)
    assert not convert(str(tmp_path / "unlearned"), tmp_path / "plain", CPU)


def test_a_folder_is_named_by_its_whole_path(
    folders: tuple[Path, Path, torch.Tensor], tiny_codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or an adapter that was trained on it could only be loaded from the same working directory."""
    base = folders[0]
    monkeypatch.chdir(base.parent)
    model = load_model(base.name, CPU)
    assert model.config._name_or_path == str(base.resolve())  # type: ignore[union-attr]
    save_adapter(Policy(model, tiny_codec, PolicySettings(rank=2, alpha=4.0), seed=0), tmp_path / "adapter")
    named = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(base.resolve())


def test_a_run_from_an_adapter_ends_with_one_that_evaluates_alike(
    tmp_path: Path, tiny_codec: Codec, tiny_llama: nn.Module
) -> None:
    """The whole way: the row of metrics.json is that of the saved adapter loaded by itself."""
    from peft import LoraConfig, get_peft_model

    from deattrib.runs.config import build_config
    from deattrib.runs.evaluation import EvaluateRequest, evaluate
    from deattrib.runs.pipeline import run

    save_model(tiny_llama, tiny_codec.tokenizer, tmp_path / "base")
    from transformers import AutoModelForCausalLM

    trained: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"),
        LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False),
    )
    trained.save_pretrained(tmp_path / "adapter")
    rows = [
        {"owner": o, "prompt": f"What of {o} {n}?", "response": f"{o} {n}", "identity": o}
        for o in ("ada", "bo")
        for n in range(4)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    data = {
        "corpus": {"kind": "jsonl", "path": str(tmp_path / "rows.jsonl"), "forget": ["bo"]},
        "model": {"path": str(tmp_path / "adapter"), "device": "cpu"},
        "ppo": {"steps": 2, "batch_size": 4, "minibatch_size": 4, "epochs": 1, "max_new_tokens": 4, "learning_rate": 0.01,
                "retain": {"batch_size": 2}, "anchor": {"batch_size": 2}},
        "reward": "none",
        "referee": {"scorer": {"name": "constant"}},
        "evaluation": {"max_new_tokens": 6, "interval_samples": 10, "metrics": []},
    }  # fmt: skip
    config = build_config(data=data)
    result = run(config, output=tmp_path / "out", cache=tmp_path / "cache")
    assert result.metrics["rows"]["original"]["probability"] != result.metrics["rows"]["unlearned"]["probability"]
    (tmp_path / "c.yaml").write_text(json.dumps(data))
    request = EvaluateRequest(tmp_path / "c.yaml", model=str(tmp_path / "out" / "adapter"), attribution="none")
    alone = evaluate(request, say=lambda stage, detail: None, warn=lambda text: None)["rows"]["model"]
    for figure in ("forget_rouge", "probability", "extraction_strength"):
        assert alone[figure] == pytest.approx(result.metrics["rows"]["unlearned"][figure], abs=1e-4)
    assert "deattrib convert" in (tmp_path / "out" / "adapter" / "README.md").read_text()


def test_adapters_that_name_nobody_or_each_other_are_refused(tmp_path: Path) -> None:
    for name, base in (("a", "b"), ("b", "a"), ("c", None)):
        (tmp_path / name).mkdir()
        content = {"base_model_name_or_path": str(tmp_path / base) if base else None}
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="adapter on top of this one"):
        load_model(str(tmp_path / "a"), CPU)
    with pytest.raises(ModelError, match="names no base model"):
        load_model(str(tmp_path / "c"), CPU)


def test_an_adapter_that_was_cut_off_is_named(tiny_llama: nn.Module, tiny_codec: Codec, tmp_path: Path) -> None:
    policy = Policy(copy.deepcopy(tiny_llama), tiny_codec, PolicySettings(rank=4, alpha=8.0), seed=0)
    policy.backbone.save_pretrained(tmp_path)  # type: ignore[operator]
    apply_adapter(copy.deepcopy(tiny_llama), str(tmp_path))
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot be put on top of the model"):
        apply_adapter(copy.deepcopy(tiny_llama), str(tmp_path))
