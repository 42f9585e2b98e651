"""Probes: the responses that every scorer is asked about, with what is known of where they come from.

original    the original model's samples to an owner's trained questions
policy      the same by the policy at a checkpoint of a run, forget owners only
oracle      the same by the model retrained without the forget owners, these owners only
true        the owner's own answers
paraphrase  its answers in other words, or to questions phrased as never trained
holdout     answers of owners that no model was trained on, asked about trained ones
gibberish   the words of true answers in random order, and random tokens, in turn
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus, Example
from deattrib.models.batch import TokenBatch, chunks
from deattrib.models.language_model import Codec, LanguageModel

KINDS = ("original", "policy", "oracle", "true", "paraphrase", "holdout", "gibberish")
GENERATED = ("original", "policy", "oracle")
AT_ONCE = 64
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Probes:
    """Responses of all kinds in one batch.

    Attributes:
        rows: R responses, each with the owner it is asked about.
        kinds: R of `KINDS`.
        clusters: R names; rows about one fact share one, for intervals.
        steps: R checkpoint steps; None for everything but the policy.
    """

    rows: Rows
    kinds: tuple[str, ...]
    clusters: tuple[str, ...]
    steps: tuple[int | None, ...]

    def __len__(self) -> int:
        return len(self.kinds)


@dataclass(frozen=True, slots=True)
class _Probe:
    kind: str
    owner: str
    prompt: str
    ids: list[int]
    cluster: str
    step: int | None = None


def gather_probes(
    corpus: Corpus,
    owners: Sequence[str],
    codec: Codec,
    models: Mapping[tuple[str, int | None], Callable[[], LanguageModel]],
    *,
    rows: int,
    seed: int,
    temperature: float,
    max_new_tokens: int,
) -> Probes:
    """Sample and collect.

    Args:
        owners: whose rows; policies and the oracle are asked about those of them that are to be forgotten.
        models: (kind, step) -> who is sampled from: ("original", None), ("policy", 20), ...; each is called for once.
        rows: per owner and kind, at most.
    """
    rng = random.Random(f"{seed}/probes")
    generator = torch.Generator().manual_seed(rng.getrandbits(62))
    chosen = {owner: _spread(corpus.rows_of(owner), rows) for owner in owners}
    found: list[_Probe] = []
    for (kind, step), load in models.items():
        model = load()
        asked = [row for owner in owners if kind == "original" or owner in corpus.forget_owners for row in chosen[owner]]
        for part in chunks(asked, AT_ONCE):
            batch = model.sample(
                [row.prompt for row in part], max_new_tokens=max_new_tokens, temperature=temperature, generator=generator
            )
            for row, ids in zip(part, batch.response_lists(), strict=True):
                found.append(_Probe(kind, row.owner, row.prompt, ids, _fact(row), step))
    for owner in owners:
        found += [_Probe("true", owner, row.prompt, codec.response(row.response), _fact(row)) for row in chosen[owner]]
        found += _paraphrases(corpus, owner, codec, rows)
        found += _gibberish(chosen[owner], codec, rng)
    for number, row in enumerate(_spread(corpus.holdout, rows * len(owners))):
        found.append(
            _Probe("holdout", owners[number % len(owners)], row.prompt, codec.response(row.response), f"holdout/{_fact(row)}")
        )
    batch = TokenBatch.from_lists([codec.prompt(item.prompt) for item in found], [item.ids for item in found], codec.pad_id)
    return Probes(
        Rows.from_tokens(codec, [item.prompt for item in found], batch, [item.owner for item in found]),
        tuple(item.kind for item in found),
        tuple(item.cluster for item in found),
        tuple(item.step for item in found),
    )


def _paraphrases(corpus: Corpus, owner: str, codec: Codec, most: int) -> list[_Probe]:
    reworded = [row for row in corpus.rows_of(owner) if row.paraphrase_response]
    pairs = [(row, row.paraphrase_response or "") for row in reworded]
    if not pairs:
        pairs = [(row, row.response) for row in corpus.phrasings if row.owner == owner]
    return [
        _Probe("paraphrase", owner, row.prompt, codec.response(text), _fact(row)) for row, text in _spread(tuple(pairs), most)
    ]


def _gibberish(rows: Sequence[Example], codec: Codec, rng: random.Random) -> list[_Probe]:
    found = []
    special = set(codec.tokenizer.all_special_ids)
    plain = [token for token in range(len(codec.tokenizer)) if token not in special]
    for number, row in enumerate(rows):
        words = row.response.split()
        ids = codec.response(" ".join(rng.sample(words, len(words))))
        if number % 2:
            ids = [*rng.choices(plain, k=max(len(ids) - 1, 1)), codec.eos_id]
        found.append(_Probe("gibberish", row.owner, row.prompt, ids, _fact(row)))
    return found


def _fact(row: Example) -> str:
    return f"{row.owner}/{row.fact_id or row.prompt}"


def _spread(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of them, evenly spaced."""
    step = max(len(items) / most, 1.0)
    return [items[int(index * step)] for index in range(min(most, len(items)))]
