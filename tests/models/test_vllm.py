"""Rollouts by vLLM itself, where it and a CUDA device are there: the policy's distribution, and its own log-probabilities."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from tests.ppo.toy import EvenTokens, small

from deattrib.corpus.types import Corpus
from deattrib.models.language_model import Codec
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings, RolloutSettings
from deattrib.ppo.unlearner import Unlearner

pytest.importorskip("vllm", reason="vLLM is not installed (extra vllm); tests/models/test_rollout.py has what it is handed")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="vLLM samples on CUDA only, and there is no such device")

PROMPT = "In which place did the life of Oressa Draydale begin?"


@pytest.fixture
def policy(tiny_codec: Codec) -> Policy:
    """A model of a size that vLLM has kernels for, its adapter away from the start."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tiny_codec.tokenizer), initializer_range=0.1, **sizes))
    policy = Policy(model.to("cuda", torch.bfloat16), tiny_codec, PolicySettings(rank=8, alpha=16.0), seed=0)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return policy


def test_it_samples_the_adapted_policy(policy: Policy) -> None:
    count = 2048
    batch = policy.sample(
        [PROMPT] * count, max_new_tokens=1, temperature=1.0, generator=torch.Generator().manual_seed(0),
        how=RolloutSettings(backend="vllm"),
    )  # fmt: skip
    found = Counter(row[0] for row in batch.response_lists())
    with torch.no_grad():
        expected = policy(policy.codec.encode([PROMPT], ["x"]).to("cuda")).logits[0, 0].float().softmax(-1).cpu()
    likely = [token for token in range(len(expected)) if count * expected[token] >= 20]
    assert likely
    for token in likely:  # five standard deviations of a count
        mean = count * float(expected[token])
        assert abs(found[token] - mean) < 5 * mean**0.5 + 0.05 * mean


def test_log_probabilities_are_the_policy_s_own(policy: Policy, tiny_corpus: Corpus) -> None:
    settings = small(steps=1, epochs=1, retain={"weight": 0.0}, anchor={"hinge": 0.0, "kl": 0.0}, rollout={"backend": "vllm"})
    (step,) = Unlearner(policy, tiny_corpus, EvenTokens(), settings, seed=0)
    assert step.figures["ratio_error"] == 0.0


def test_an_answer_ends_with_its_stop_token(policy: Policy) -> None:
    batch = policy.sample(
        [PROMPT] * 256, max_new_tokens=64, temperature=1.0, generator=torch.Generator().manual_seed(1),
        how=RolloutSettings(backend="vllm"),
    )  # fmt: skip
    ended = [row for row in batch.response_lists() if len(row) < 64]
    assert ended and all(row[-1] == policy.codec.eos_id for row in ended)
