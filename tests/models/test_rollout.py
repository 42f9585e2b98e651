"""Rollouts by parts, with copies and with rows that leave: the same samples as all at once, with less work."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from deattrib.errors import ConfigError
from deattrib.models import sampling
from deattrib.models.batch import TokenBatch
from deattrib.models.language_model import Codec
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings, RolloutSettings
from deattrib.ppo.settings import PPOSettings

PROMPTS = ["Who?", "In which place did the life of Oressa Draydale begin?", "Tell me the trade of the father.", "Why not?"]


@pytest.fixture
def policy(tiny_llama: nn.Module, tiny_codec: Codec) -> Policy:
    return Policy(tiny_llama, tiny_codec, PolicySettings(rank=2, alpha=4.0), seed=0)


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Rows and tokens of every forward pass while sampling."""
    shapes: list[tuple[int, int]] = []
    plain = sampling._next

    def watched(model: nn.Module, ids: Tensor, *rest: Any) -> tuple[Tensor, Any]:
        shapes.append((ids.shape[0], ids.shape[1]))
        return plain(model, ids, *rest)

    monkeypatch.setattr(sampling, "_next", watched)
    return shapes


def ask(policy: Policy, prompts: list[str], temperature: float = 1.0, **how: Any) -> TokenBatch:
    generator = torch.Generator().manual_seed(3)
    return policy.sample(prompts, max_new_tokens=24, temperature=temperature, generator=generator, how=RolloutSettings(**how))


def test_several_samples_share_a_prefill(policy: Policy, fed: list[tuple[int, int]]) -> None:
    prompts = [text for text in PROMPTS for _ in range(3)]
    apart = ask(policy, prompts)
    assert fed[0][0] == 12
    fed.clear()
    together = ask(policy, prompts, samples=3)
    assert fed[0][0] == 4 and fed[1][0] == 12
    assert together.response_lists() == apart.response_lists()
    assert len({tuple(row) for row in together.response_lists()}) > 4  # samples of one prompt differ


def test_prompts_that_are_not_repeated_are_all_read(policy: Policy, fed: list[tuple[int, int]]) -> None:
    generator = torch.Generator().manual_seed(3)
    batch = policy.codec.encode(PROMPTS, [""] * 4, end=False)
    sampling.sample(
        policy.backbone, batch.prompt_ids, batch.prompt_lengths, max_new_tokens=3, temperature=1.0, stop_ids=(), pad_id=0,
        generator=generator, copies=2,
    )  # fmt: skip
    assert fed[0][0] == 4


def test_finished_rows_leave_and_nothing_else_changes(policy: Policy, fed: list[tuple[int, int]]) -> None:
    stops = tuple(range(0, len(policy.codec.tokenizer), 8))  # rows end early, each in its own time
    batch = policy.codec.encode(PROMPTS * 3, [""] * 12, end=False)

    def run(drop: bool | None) -> TokenBatch:
        return sampling.sample(
            policy.backbone, batch.prompt_ids, batch.prompt_lengths, max_new_tokens=30, temperature=1.0, stop_ids=stops,
            pad_id=0, generator=torch.Generator().manual_seed(0), drop=drop,
        )  # fmt: skip

    whole, small = run(False), run(None)
    assert {rows for rows, _ in fed} == {12}  # a small model keeps its rows, and its bits
    assert torch.equal(whole.response_ids, small.response_ids)
    fed.clear()
    left = run(True)
    assert left.response_lists() == whole.response_lists() and len(set(whole.response_lengths.tolist())) > 3
    assert min(rows for rows, _ in fed) < 6


def test_parts_hold_prompts_of_similar_length_and_come_back_in_order(policy: Policy, fed: list[tuple[int, int]]) -> None:
    prompts = [text for text in PROMPTS for _ in range(2)]
    whole = ask(policy, prompts, temperature=0.0, samples=2)
    fed.clear()
    parts = ask(policy, prompts, temperature=0.0, samples=2, batch_size=2)
    assert parts.response_lists() == whole.response_lists()
    assert parts.prompt_lists() == whole.prompt_lists()
    lengths = sorted(len(policy.codec.prompt(text)) for text in PROMPTS)
    assert [tokens for _, tokens in fed if tokens > 1] == [
        lengths[1],
        lengths[3],
    ]  # no padding of the long ones


def test_samples_divide_the_batch() -> None:
    with pytest.raises(ValidationError, match=r"batch_size 16 is not a multiple of rollout\.samples 3"):
        PPOSettings(rollout=RolloutSettings(samples=3))
    settings = PPOSettings(rollout=RolloutSettings(samples=4), data_epochs=1)
    assert settings.prompts == 4 and settings.steps_on(10) == 3


def test_vllm_is_named_where_it_is_missing(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r"pip install 'deattrib\[vllm\]'"):
        ask(policy, PROMPTS, backend="vllm")


def test_vllm_trains_adapters_only(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    policy = Policy(tiny_llama, tiny_codec, PolicySettings(adapter="full"), seed=0)
    with pytest.raises(ConfigError, match="LoRA policies only"):
        ask(policy, PROMPTS, backend="vllm")


def test_what_vllm_is_handed(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not vLLM, which needs CUDA: an engine that takes what its documentation says, and answers with the row's number."""
    calls: list[Any] = []

    class Parameters(SimpleNamespace):
        def clone(self) -> Parameters:
            return Parameters(**self.__dict__)

    class Engine:
        def __init__(self, **options: Any) -> None:
            calls.append(options)

        def generate(self, prompts: list[Any], parameters: list[Parameters], **more: Any) -> list[Any]:
            files = sorted(path.name for path in Path(more["lora_request"].path).iterdir())
            calls.append((prompts, parameters, more["lora_request"], files))
            return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=(7, row + 8))]) for row in range(len(prompts))]

    engine = ModuleType("vllm")
    engine.LLM, engine.SamplingParams = Engine, Parameters  # type: ignore[attr-defined]
    request = ModuleType("vllm.lora.request")
    request.LoRARequest = lambda name, number, path: SimpleNamespace(name=name, number=number, path=path)  # type: ignore[attr-defined]
    for name, module in {"vllm": engine, "vllm.lora": ModuleType("vllm.lora"), "vllm.lora.request": request}.items():
        monkeypatch.setitem(sys.modules, name, module)
    first, second = ask(policy, PROMPTS, backend="vllm"), ask(policy, PROMPTS, backend="vllm")
    assert first.response_lists() == second.response_lists() == [[7, row + 8] for row in range(4)]
    assert len(calls) == 3 and calls[0]["enable_lora"]  # one engine for the run
    prompts, parameters, adapter, files = calls[1]
    assert [prompt["prompt_token_ids"] for prompt in prompts] == [policy.codec.prompt(text) for text in PROMPTS]
    assert (parameters[0].temperature, parameters[0].top_p, parameters[0].top_k) == (1.0, 1.0, -1)
    assert len({one.seed for one in parameters}) == 4 and parameters[0].stop_token_ids == [policy.codec.eos_id]
    assert "adapter_model.safetensors" in files and calls[2][2].number == adapter.number + 1
