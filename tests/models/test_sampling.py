"""Samples come from the plain tempered distribution, row by row, and leave the global random state alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn

from deattrib.models.batch import TokenBatch
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.sampling import pick, sample

PROMPTS = ["Who?", "In which place did the life of Oressa Draydale begin?", "Tell me the trade of the father."]


class Scripted(nn.Module):
    """Gives row b the logits script[b, step], whatever it reads."""

    def __init__(self, script: Tensor) -> None:
        super().__init__()
        self.script = script

    def forward(self, *, past_key_values: Any = None, **_: Any) -> Any:
        step = past_key_values or 0
        return SimpleNamespace(logits=self.script[:, step, None], past_key_values=step + 1)


def run(script: Tensor, *, temperature: float = 1.0, stop: tuple[int, ...] = (0,), pad: int = 9, seed: int = 0) -> TokenBatch:
    rows = len(script)
    return sample(
        Scripted(script), torch.ones(rows, 1, dtype=torch.int64), torch.ones(rows, dtype=torch.int64),
        max_new_tokens=script.shape[1], temperature=temperature, stop_ids=stop, pad_id=pad,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


def one_hot(tokens: list[list[int]], size: int = 10) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(tokens), size).float() * 100.0


def test_greedy_is_what_transformers_generates(tiny_model: nn.Module, tiny_codec: Codec) -> None:
    batch = LanguageModel(tiny_model, tiny_codec).sample(PROMPTS, max_new_tokens=12, temperature=0.0)
    for row, text in enumerate(PROMPTS):
        prompt = torch.tensor([tiny_codec.prompt(text)])
        theirs = tiny_model.generate(  # type: ignore[operator]
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=12,
            eos_token_id=tiny_codec.eos_id, pad_token_id=tiny_codec.pad_id,
        )  # fmt: skip
        assert batch.response_lists()[row] == theirs[0, prompt.shape[1] :].tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_the_softmax(temperature: float) -> None:
    logits = torch.tensor([0.3, -1.0, 1.2, 0.0, -0.4])
    count = 6000
    batch = run(logits.expand(count, 1, 5), temperature=temperature, stop=())
    observed = torch.bincount(batch.response_ids[:, 0], minlength=5).double()
    expected = torch.softmax(logits.double() / temperature, 0) * count
    assert chisquare(observed.numpy(), expected.numpy()).pvalue > 1e-3
    wrong = torch.softmax(logits.double() / (temperature * 1.3), 0) * count
    assert chisquare(observed.numpy(), wrong.numpy()).pvalue < 1e-3  # the test can tell


def test_the_stop_token_counts_and_ends_the_row() -> None:
    batch = run(one_hot([[3, 0, 4, 4], [3, 3, 3, 0], [5, 5, 5, 5]]))
    assert batch.response_lengths.tolist() == [2, 4, 4]
    assert batch.response_ids.tolist() == [[3, 0, 9, 9], [3, 3, 3, 0], [5, 5, 5, 5]]


def test_sampling_stops_when_all_rows_have() -> None:
    assert run(one_hot([[0, 4, 4, 4], [3, 0, 4, 4]])).response_ids.shape == (2, 2)


@pytest.mark.parametrize("uniform", [0.0, 2.0**-24, 0.5, 1 - 2.0**-24])
def test_impossible_tokens_are_never_drawn(uniform: float) -> None:
    logits = torch.full((1, 6), float("-inf"))
    logits[0, [1, 3, 4]] = torch.tensor([0.0, -20.0, 0.0])
    token = int(pick(logits, 1.0, torch.full((1,), uniform))[0])
    assert token in (1, 3, 4)
    assert token == (1 if uniform <= 2.0**-24 else 4)


def test_the_highest_uniform_number_stays_inside_wide_vocabularies() -> None:
    logits = torch.randn(16, 50_000, generator=torch.Generator().manual_seed(0))
    logits[:, -10:] = float("-inf")
    assert int(pick(logits, 1.0, torch.full((16,), 1 - 2.0**-24)).max()) < 50_000 - 10


def test_a_row_does_not_depend_on_its_neighbours(tiny_model: nn.Module, tiny_codec: Codec) -> None:
    model = LanguageModel(tiny_model, tiny_codec)

    def first(prompts: list[str]) -> list[int]:
        generator = torch.Generator().manual_seed(4)
        batch = model.sample(prompts, max_new_tokens=10, temperature=1.0, generator=generator)
        return batch.response_lists()[0]

    assert first(PROMPTS) == first([PROMPTS[0], "Why?", "x " * 30])


def test_same_seed_same_text_and_the_global_state_is_left_alone(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    model = LanguageModel(tiny_llama, tiny_codec)
    before = torch.get_rng_state()
    texts = model.generate(PROMPTS, max_new_tokens=8, temperature=1.0, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert texts == model.generate(PROMPTS, max_new_tokens=8, temperature=1.0, seed=1)
    assert texts != model.generate(PROMPTS, max_new_tokens=8, temperature=1.0, seed=2)


def test_temperature_needs_a_generator(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    with pytest.raises(ValueError, match=r"torch\.Generator"):
        LanguageModel(tiny_llama, tiny_codec).sample(PROMPTS, max_new_tokens=2, temperature=1.0)


def test_the_mode_is_put_back(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    model = LanguageModel(tiny_llama, tiny_codec)
    tiny_llama.train()
    model.generate(PROMPTS[:1], max_new_tokens=2)
    assert tiny_llama.training


class KeepsSines(nn.Module):
    """As code from the hub may do: what the first pass makes of the positions is kept for those that follow."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5))
        self.kept: Tensor | None = None
        self.graphs: list[bool] = []

    def forward(self, *, input_ids: Tensor, past_key_values: Any = None, **_: Any) -> Any:
        self.graphs.append(torch.is_grad_enabled())
        if self.kept is None:
            self.kept = torch.arange(5.0).sin()
        return SimpleNamespace(logits=(self.weight * self.kept).expand(len(input_ids), 1, 5), past_key_values=1)


def test_what_a_pass_leaves_in_a_model_serves_one_with_gradients() -> None:
    model = KeepsSines()
    one = torch.ones(2, 1, dtype=torch.int64)
    sample(model, one, one[:, 0], max_new_tokens=2, temperature=0.0, stop_ids=(), pad_id=0)
    assert model.graphs == [False, False]  # no graph of all the steps
    model(input_ids=one).logits.sum().backward()
    assert model.weight.grad is not None and torch.equal(model.weight.grad, 2 * torch.arange(5.0).sin())


@pytest.mark.parametrize("rope", [{"rope_type": "default"}, {"rope_type": "dynamic", "factor": 2.0}, {"rope_type": "longrope"}])
def test_a_model_is_trained_after_it_was_sampled_from(rope: dict[str, Any]) -> None:
    """Those that make their frequencies anew as a text grows keep them in the module."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if rope["rope_type"] == "longrope":
        rope = {**rope, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_max_position_embeddings": 8}
    sizes = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(**sizes, max_position_embeddings=32, rope_parameters={"rope_theta": 10_000.0, **rope})
    model = LlamaForCausalLM(config)
    ids = torch.arange(24).reshape(2, 12) % 20
    batch = sample(model, ids, torch.tensor([12, 12]), max_new_tokens=15, temperature=0.0, stop_ids=(), pad_id=0)
    assert not any(value.is_inference() for value in (batch.response_ids, batch.response_lengths))
    model(input_ids=torch.cat([ids, batch.response_ids], 1)).logits.sum().backward()
    assert all(value.grad is not None for value in model.parameters())
