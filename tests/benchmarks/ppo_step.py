"""CPU seconds of one PPO step on a random Llama (hidden 128, 4 layers, vocabulary 2048; 32 answers of 32 tokens), one thread.

Prints one JSON line: episodes per CPU second, and the share of rollout and update. `--steps 1` is a smoke test.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time

import torch

from deattrib.corpus.fictitious import fictitious_corpus
from deattrib.models.language_model import Codec
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings, ScratchSettings
from deattrib.models.scratch import make_model, make_tokenizer
from deattrib.ppo.rollout import AttributionSource
from deattrib.ppo.settings import AnchorSettings, PPOSettings, RetainSettings, RewardSettings
from deattrib.ppo.unlearner import Unlearner


class EvenTokens:
    """Share of even token ids: a Python reward that costs next to nothing."""

    chance = 0.0

    def attribution(self, rows, ends=None):  # type: ignore[no-untyped-def]
        shares = (rows.batch.response_ids % 2 == 0).float().mean(1)
        return shares if ends is None else shares[:, None].expand(ends.shape)


def main() -> None:
    """Time some steps, the first one left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--adapter", choices=["lora", "full"], default="full")
    given = parser.parse_args()
    torch.set_num_threads(1)
    corpus = fictitious_corpus(seed=0, shadow_owners=60)
    texts = [text for row in corpus.background for text in (row.prompt, row.response)]
    tokenizer = make_tokenizer(texts, given.vocabulary)
    sizes = ScratchSettings(hidden=given.hidden, layers=given.layers, vocabulary=given.vocabulary)
    policy = Policy(make_model(sizes, tokenizer, seed=0), Codec(tokenizer), PolicySettings(adapter=given.adapter), seed=0)
    settings = PPOSettings(
        steps=given.steps + 1,
        batch_size=32,
        minibatch_size=32,
        epochs=4,
        max_new_tokens=32,
        target_kl=None,
        reward=RewardSettings(kl=0.0, reference="none"),
        retain=RetainSettings(weight=0.0),
        anchor=AnchorSettings(hinge=0.0, kl=0.0),
    )
    source: AttributionSource = EvenTokens()
    seconds = []
    for _ in Unlearner(policy, corpus, source, settings, seed=0):
        seconds.append(time.process_time())
    steps = [after - before for before, after in itertools.pairwise(seconds)]
    print(json.dumps({"episodes_per_cpu_second": round(32 / statistics.median(steps), 2), "steps": len(steps), "threads": 1}))


if __name__ == "__main__":
    main()
