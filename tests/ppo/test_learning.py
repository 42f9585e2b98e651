"""That it learns: to avoid what is attributed, and to stay near the original where it is held."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.ppo.toy import run, small
from torch import Tensor, nn

from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus
from deattrib.models.language_model import Codec
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib.models.training import answer_loss
from deattrib.ppo.unlearner import Unlearner

Make = Any  # the fixture of conftest.py


class SaysRed:
    """Attribution 1 where the answer has the word red by then, else 0."""

    chance = 0.0

    def __init__(self, codec: Codec) -> None:
        self.codec = codec

    def attribution(self, rows: Rows, ends: Tensor | None = None) -> Tensor:
        assert ends is not None
        ids = rows.batch.response_lists()
        return torch.tensor(
            [["red" in self.codec.decode(row[:end]) for end in stops] for row, stops in zip(ids, ends.tolist(), strict=True)]
        ).float()


@pytest.mark.parametrize(
    ("estimator", "normalise"),
    [
        ("gae", "remaining"),
        pytest.param("gae", "sum", marks=pytest.mark.slow),
        pytest.param("rloo", "remaining", marks=pytest.mark.slow),
        ("grpo", "sum"),
    ],
)
def test_it_learns_to_avoid_what_is_attributed(
    tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus, estimator: str, normalise: str
) -> None:
    """A model that says red and blue equally often forgets red, and says blue instead, not nothing.

    Looked at over 240 answers: what a few of them are depends on the processor.
    """
    answers = ["It is red.", "It is blue."]
    prompts = [row.prompt for row in tiny_corpus.forget for _ in answers]
    batch = tiny_codec.encode(prompts, answers * len(tiny_corpus.forget))
    optimiser = torch.optim.AdamW(tiny_llama.parameters(), lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        answer_loss(tiny_llama, batch).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    policy = Policy(tiny_llama, tiny_codec, PolicySettings(rank=4, alpha=8.0), seed=0)
    settings = small(
        steps=20, batch_size=24, minibatch_size=24, learning_rate=6e-3, max_new_tokens=12, policy_weight=1.0,
        estimator=estimator, rollout={"samples": 4 if estimator != "gae" else 1},
        reward={"kl": 0.1, "reference": "original", "normalise": normalise},
        retain={"weight": 0.0}, anchor={"hinge": 0.0, "kl": 0.0},
    )  # fmt: skip
    history = run(Unlearner(policy, tiny_corpus, SaysRed(tiny_codec), settings, seed=0))
    assert history[0]["attribution"] > 0.3
    assert sum(figures["attribution"] for figures in history[-10:]) / 10 < 0.2
    assert history[-1]["reward"] > history[0]["reward"]
    texts = policy.language_model().generate(prompts[::2], max_new_tokens=12, temperature=1.0)
    assert sum("blue" in text for text in texts) > 1.5 * sum("red" in text for text in texts)


def test_the_retain_term_holds_the_policy_back(make: Make) -> None:
    def drift(weight: float) -> float:
        unlearner = make(small(steps=5, retain={"weight": weight, "batch_size": 12}))
        run(unlearner)
        rows = unlearner.corpus.retain
        batch = unlearner.policy.codec.encode([row.prompt for row in rows], [row.response for row in rows])
        with torch.no_grad():
            p = torch.log_softmax(unlearner.policy.original_logits(batch), -1)
            q = torch.log_softmax(unlearner.policy(batch).logits, -1)
        return float((p.exp() * (p - q)).sum(-1)[batch.response_mask].mean())

    assert drift(20.0) < drift(0.0)
