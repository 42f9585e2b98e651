"""The anchored term on a model: what it pushes, and where it stops."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib.ppo.anchored import anchor_rows, anchored_loss
from deattrib.ppo.data import Shared
from deattrib.ppo.reference import Reference
from deattrib.ppo.settings import AnchorSettings


@pytest.fixture
def policy(tiny_llama: nn.Module, tiny_codec: Codec) -> Policy:
    return Policy(copy.deepcopy(tiny_llama), tiny_codec, PolicySettings(rank=4, alpha=8.0), seed=0)


def term(policy: Policy, corpus: Corpus, base: LanguageModel | None, towards: Any, **weights: Any) -> Callable[..., Any]:
    settings = AnchorSettings(**{"towards": towards, "dropped_words": 0.0, "grafted": 0.0, "opening": 0.0, **weights})
    names = ("counterfactual", "base") if towards == "both" else (towards,)
    made = [
        Reference(name, policy=policy, base=base, identities=corpus.identities, retain_owners=corpus.retain_owners)  # type: ignore[arg-type]
        for name in names
    ]

    shared = Shared.of_answers(policy.codec, [row.response for row in corpus.retain])

    def call(token_scores: Any = None, frames: Sequence[str] = ()) -> tuple[Tensor, dict[str, float]]:
        (rows,) = anchor_rows(
            policy.codec, corpus.forget[:4], made, settings, random.Random(0),
            device=policy.device, frames=frames, shared=shared,
        )  # fmt: skip
        return anchored_loss(policy, rows, settings, token_scores)

    return call


def gradient(policy: Policy, loss: Tensor) -> float:
    policy.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return max(float(value.grad.abs().max()) for value in policy.trainable().values() if value.grad is not None)


def test_towards_itself_there_is_nothing_to_do(policy: Policy, tiny_llama: nn.Module, tiny_corpus: Corpus) -> None:
    """The policy is still the original; anchored to that very model neither part has a gradient."""
    call = term(policy, tiny_corpus, LanguageModel(tiny_llama, policy.codec), "base", hinge=1.0, kl=0.0)
    loss, figures = call()
    assert figures["anchor_hinge"] == 0 and gradient(policy, loss) == 0
    call = term(policy, tiny_corpus, LanguageModel(tiny_llama, policy.codec), "base", hinge=0.0, kl=1.0)
    loss, figures = call()
    assert abs(figures["anchor_kl"]) < 1e-6 and gradient(policy, loss) < 1e-5


def test_training_on_it_lowers_both(policy: Policy, tiny_corpus: Corpus) -> None:
    call = term(policy, tiny_corpus, None, "counterfactual", hinge=1.0, kl=0.4)
    loss, before = call()
    assert float(loss.detach()) == pytest.approx(before["anchor_hinge"] + 0.4 * before["anchor_kl"], rel=1e-5)
    optimiser = torch.optim.AdamW(policy.trainable().values(), lr=5e-3)
    for _ in range(15):
        optimiser.zero_grad()
        call()[0].backward()
        optimiser.step()
    after = call()[1]
    assert after["anchor_hinge"] < before["anchor_hinge"] and after["anchor_kl"] < before["anchor_kl"]


def test_the_hinge_by_a_second_way(policy: Policy, tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> None:
    base = LanguageModel(copy.deepcopy(tiny_llama), tiny_codec)
    with torch.no_grad():
        next(base.model.parameters()).mul_(0.5)
    figures = term(policy, tiny_corpus, base, "base", hinge=1.0, kl=0.0)()[1]
    excess = []
    for row in tiny_corpus.forget[:4]:
        batch = tiny_codec.encode([row.prompt], [row.response])
        mine, level = LanguageModel(tiny_llama, tiny_codec).token_log_probs(batch), base.token_log_probs(batch)
        excess += [max(0.0, float(a - b)) for a, b in zip(mine[0], level[0], strict=True)]
    assert figures["anchor_hinge"] == pytest.approx(sum(excess) / len(excess), rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("sharpening", [0.0, 0.5])
def test_towards_both_what_others_say_keeps_its_level_and_the_owners_words_go_below_the_base_models(
    policy: Policy, tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus, sharpening: float
) -> None:
    base = LanguageModel(copy.deepcopy(tiny_llama), tiny_codec)
    next(base.model.parameters()).mul_(0.5)
    rows = tiny_corpus.forget[:4]
    prompts, owners = [row.prompt for row in rows], [row.owner for row in rows]
    batch = tiny_codec.encode(prompts, [row.response for row in rows])
    names, retained = tiny_corpus.identities, tiny_corpus.retain_owners
    common: Any = {"policy": policy, "base": base, "identities": names, "retain_owners": retained}
    counterfactual = Reference("counterfactual", **common)
    kept = batch.response_mask
    near = counterfactual.logits(prompts, owners, batch, counterfactual.draw(owners, random.Random(0)))
    far = Reference("base", **common).logits(prompts, owners, batch, ())
    pick = batch.response_ids[..., None]
    near, far = near.log_softmax(-1), far.log_softmax(-1)
    mine = LanguageModel(tiny_llama, tiny_codec).token_log_probs(batch)
    lowered = far.gather(-1, pick).squeeze(-1) - sharpening * (far.exp() * (far - near)).sum(-1)
    own = near.gather(-1, pick).squeeze(-1)
    said = {pair for row in tiny_corpus.retain for pair in pairs(tiny_codec.response(row.response))}
    shared = torch.tensor(
        [[pair in said for pair in pairs(ids)] + [False] * (own.shape[1] - len(ids)) for ids in batch.response_lists()]
    )
    assert 0.1 < float(shared[kept].float().mean()) < 0.9
    level = torch.where(shared, own, torch.minimum(own, lowered))
    excess = (mine - level).clamp(min=0)[kept]
    figures = term(policy, tiny_corpus, base, "both", hinge=1.0, kl=1.0, sharpening=sharpening)()[1]
    assert figures["anchor_hinge"] == pytest.approx(float(excess.mean()), rel=1e-4)
    mass = near.exp().scatter(-1, pick, level.exp()[..., None])
    p = mass / mass.sum(-1, keepdim=True)
    q = LanguageModel(tiny_llama, tiny_codec).logits(batch).log_softmax(-1)
    assert figures["anchor_kl"] == pytest.approx(float((p * (p.log() - q)).sum(-1)[kept].mean()), rel=1e-4)


def pairs(ids: list[int]) -> list[tuple[int, int]]:
    return list(zip([-1, *ids], ids, strict=False))


def test_the_first_token_weighs_more(policy: Policy, tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> None:
    base = LanguageModel(copy.deepcopy(tiny_llama), tiny_codec)
    with torch.no_grad():
        next(base.model.parameters()).mul_(0.5)
    rows = tiny_corpus.forget[:4]
    batch = tiny_codec.encode([row.prompt for row in rows], [row.response for row in rows])
    p, q = (model.logits(batch)[:, 0].log_softmax(-1) for model in (base, LanguageModel(tiny_llama, tiny_codec)))
    first = float((p.exp() * (p - q)).sum(-1).mean())
    without = term(policy, tiny_corpus, base, "base", hinge=0.0, kl=1.0)()[1]["anchor_kl"]
    with_it = term(policy, tiny_corpus, base, "base", hinge=0.0, kl=1.0, opening=2.0)()[1]["anchor_kl"]
    assert first > 0.01 and with_it - without == pytest.approx(2 * first, rel=1e-3)


def test_behind_another_beginning_only_the_owners_own_part_counts(
    policy: Policy, tiny_llama: nn.Module, tiny_corpus: Corpus
) -> None:
    """Anchored to its own weights there is nothing to do; what the others began is no part of the owner's words."""
    base = LanguageModel(copy.deepcopy(tiny_llama), policy.codec)
    frame = "Nobody ever said that"
    call = term(policy, tiny_corpus, base, "base", hinge=1.0, kl=0.0, grafted=1.0)
    assert call(frames=[frame])[1]["anchor_hinge"] == 0
    seen: list[Rows] = []

    def watch(rows: Rows) -> Tensor:
        seen.append(rows)
        return torch.ones(rows.batch.response_ids.shape)

    call(watch, frames=[frame])
    own = {word for row in tiny_corpus.forget[:4] for word in row.response.split()}
    begun = [text for text in seen[0].responses if text.startswith("Nobody")]
    assert begun and all(text.split()[-1] in own for text in seen[0].responses)


def test_equal_token_scores_weight_nothing(policy: Policy, tiny_corpus: Corpus) -> None:
    call = term(policy, tiny_corpus, None, "counterfactual", hinge=1.0, kl=0.0)

    def threes(rows: Rows) -> Tensor:
        assert rows.responses == tuple(row.response for row in tiny_corpus.forget[:4])
        return torch.full(rows.batch.response_ids.shape, 3.0)

    assert call(threes)[1]["anchor_hinge"] == pytest.approx(call()[1]["anchor_hinge"], rel=1e-5)
    assert call(lambda rows: -threes(rows))[1]["anchor_hinge"] == 0  # negative shares weigh nothing


def test_weights_without_token_scores_are_refused(policy: Policy, tiny_corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="score_tokens"):
        term(policy, tiny_corpus, None, "counterfactual")(lambda rows: None)
