"""Our side of the comparison: a PPO step of this library for every line on standard input."""

from __future__ import annotations

import argparse

import torch
from tests.benchmarks.lockstep import serve
from tests.benchmarks.tiny import Task, add_task, even_share, make_config, make_prompts, make_tokenizer, task
from torch import Tensor

from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus, Example
from deattrib.models.language_model import Codec
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib.models.threads import one_thread_if_small
from deattrib.ppo.settings import AnchorSettings, PPOSettings, RetainSettings, RewardSettings
from deattrib.ppo.unlearner import Unlearner


class EvenTokens:
    """Share of even token ids: a reward in Python that costs next to nothing."""

    chance = 0.0

    def attribution(self, rows: Rows, ends: Tensor | None = None) -> Tensor:
        shares: Tensor = even_share(rows.batch.response_ids)
        return shares if ends is None else shares[:, None].expand(ends.shape)


def make_unlearner(task: Task) -> Unlearner:
    """The loop with PPO's own term only, KL to the original model in the reward, and answers of one length."""
    from transformers import LlamaForCausalLM

    tokenizer = make_tokenizer(task.vocabulary)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(make_config(task))
    codec = Codec(tokenizer, template="{prompt}")
    codec.eos_id = -1  # nothing ends before its time
    rows = [
        Example("a", " ".join(f"w{number}" for number in ids), "w5") for ids in make_prompts(task, max(256, 2 * task.batch))
    ]
    corpus = Corpus("random", (*rows, Example("b", "w4", "w5")), ("a",))
    policy = Policy(model, codec, PolicySettings(adapter="full", critic=task.critic), seed=0)
    settings = PPOSettings(
        steps=10_000, batch_size=task.batch, minibatch_size=task.batch, epochs=task.epochs,
        max_new_tokens=task.response, learning_rate=1e-4, schedule="constant", warmup=0, target_kl=None, policy_weight=1.0,
        reward=RewardSettings(kl=0.05, reference="original", granularity="sequence"),
        retain=RetainSettings(weight=0.0), anchor=AnchorSettings(hinge=0.0, kl=0.0), bf16=task.bf16,
    )  # fmt: skip
    return Unlearner(policy, corpus, EvenTokens(), settings, seed=0)


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_task(parser)
    torch.set_num_threads(1)
    unlearner = make_unlearner(task(parser.parse_args()))
    with one_thread_if_small(unlearner.policy):  # as a run has it
        serve(lambda: dict(next(unlearner).figures))


if __name__ == "__main__":
    main()
