"""Each reference is the model it says it is."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError
from deattrib.models.batch import TokenBatch
from deattrib.models.identities import find_names, first_tokens, rename, swap_names, text_with_offsets
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib.ppo.reference import Reference
from deattrib.ppo.settings import ReferenceName

Nudge = Callable[[object], None]


@pytest.fixture
def policy(tiny_llama: nn.Module, tiny_codec: Codec, nudge: Nudge) -> Policy:
    """Trained a little, so that it is neither the original nor the old one."""
    made = Policy(copy.deepcopy(tiny_llama), tiny_codec, PolicySettings(rank=4, alpha=8.0), seed=0)
    nudge(made)
    made.remember()
    nudge(made)
    return made


def reference(name: ReferenceName, policy: Policy, corpus: Corpus, base: LanguageModel | None = None) -> Reference:
    return Reference(name, policy=policy, base=base, identities=corpus.identities, retain_owners=corpus.retain_owners)


def ask(made: Reference, prompts: Sequence[str], owners: Sequence[str], batch: TokenBatch, seed: int = 0) -> Any:
    return made.logits(prompts, owners, batch, made.draw(owners, random.Random(seed)))


def test_who_is_asked(policy: Policy, tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> None:
    rows = tiny_corpus.forget[:3]
    prompts, owners = [row.prompt for row in rows], [row.owner for row in rows]
    batch = tiny_codec.encode(prompts, [row.response for row in rows])
    original = LanguageModel(tiny_llama, tiny_codec)
    base = LanguageModel(copy.deepcopy(tiny_llama), tiny_codec)
    with torch.no_grad():
        next(base.model.parameters()).mul_(0.5)
    expected = {"original": original.logits(batch), "old": policy.old_logits(batch), "base": base.logits(batch)}
    assert not torch.allclose(expected["original"], expected["old"], atol=1e-3)
    for name, logits in expected.items():
        given = ask(reference(name, policy, tiny_corpus, base), prompts, owners, batch, seed=0)  # type: ignore[arg-type]
        assert torch.equal(given, logits)
    with pytest.raises(ValueError, match="none"):
        ask(reference("none", policy, tiny_corpus), prompts, owners, batch, seed=0)


def test_the_counterfactual_is_the_original_asked_about_a_retain_owner(
    policy: Policy, tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus
) -> None:
    rows = tiny_corpus.forget[:6]
    prompts, owners = [row.prompt for row in rows], [row.owner for row in rows]
    batch = tiny_codec.encode(prompts, [row.response for row in rows])
    logits = ask(reference("counterfactual", policy, tiny_corpus), prompts, owners, batch, seed=3)
    rng = random.Random(3)
    asked = [rng.choice(list(tiny_corpus.retain_owners)) for _ in rows]
    assert len(set(asked)) > 1
    for row, (example, other) in enumerate(zip(rows, asked, strict=True)):
        names = tiny_corpus.identities[example.owner], tiny_corpus.identities[other]
        text = swap_names(example.response, *names)
        single = TokenBatch.from_lists([tiny_codec.prompt(swap_names(example.prompt, *names))], [tiny_codec.response(text)], 0)
        expected = torch.log_softmax(LanguageModel(tiny_llama, tiny_codec).logits(single)[0], -1)
        moved = first_tokens(tiny_codec, *names)
        same = [token for token in range(expected.shape[-1]) if token not in {*moved, *moved.values()}]
        given = logits[row][batch.response_mask[row]]
        assert torch.allclose(given.exp().sum(-1), torch.ones(len(given)), atol=1e-4)
        assert torch.allclose(given[-5:, same], expected[-5:, same], atol=1e-4)  # the words after the last name


def test_it_speaks_of_its_own_owner(policy: Policy, tiny_codec: Codec, tiny_corpus: Corpus) -> None:
    """Where the swapped model would begin the other's name it begins the owner's, and once begun spells it out."""
    row = next(row for row in tiny_corpus.forget if tiny_corpus.identities[row.owner][0] in row.response)
    name = tiny_corpus.identities[row.owner][0]
    batch = tiny_codec.encode([row.prompt], [row.response])
    logits = ask(reference("counterfactual", policy, tiny_corpus), [row.prompt], [row.owner], batch)
    text, offsets = text_with_offsets(tiny_codec, batch.response_lists()[0])
    start, stop = find_names(text, (name,))[0]
    inside = [column for column, (begin, end) in enumerate(offsets) if begin < stop and end > start][1:]
    assert inside
    for column in inside:
        assert logits[0, column, batch.response_ids[0, column]].exp() > 0.99


def test_renaming_moves_mass_and_keeps_the_sum() -> None:
    """By hand: tokens 1 and 3 begin the other's name, token 2 one's own; a thousandth stays."""
    log_probs = torch.tensor([[[0.1, 0.2, 0.3, 0.4]]]).log()
    renamed = rename(log_probs, [{1: 2, 3: 2}])[0, 0].exp()
    assert torch.allclose(renamed, torch.tensor([0.1, 0.0002, 0.3 + 0.999 * 0.6, 0.0004]), atol=1e-6)
    assert torch.equal(rename(log_probs, [{}]), log_probs)


def test_what_is_missing_is_said(policy: Policy, tiny_corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match=r"model\.base"):
        reference("base", policy, tiny_corpus)
    nameless = dataclasses.replace(tiny_corpus, identities={})
    with pytest.raises(ConfigError, match="identit"):
        reference("counterfactual", policy, nameless)
    half = dataclasses.replace(
        tiny_corpus, identities={name: tiny_corpus.identities[name] for name in tiny_corpus.retain_owners}
    )
    row = tiny_corpus.forget[0]
    batch = policy.codec.encode([row.prompt], [row.response])
    with pytest.raises(ConfigError, match=row.owner):
        ask(reference("counterfactual", policy, half), [row.prompt], [row.owner], batch)
