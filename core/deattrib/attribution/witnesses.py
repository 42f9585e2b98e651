"""Witnesses: answers of which it is known whether the owner's data is in them, to measure a scorer's scale on.

`own`: the original model's sampled answers to the owner's prompts. `other`: what a source without the owner answers
to the same prompts. The retrained model is never a source: what may be optimised must not see the oracle.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from deattrib.attribution.context import ScorerContext
from deattrib.attribution.scorer import Rows
from deattrib.attribution.settings import CalibrationSettings
from deattrib.corpus.types import Example
from deattrib.models.batch import TokenBatch, chunks
from deattrib.models.language_model import LanguageModel

PREFIXES = 12


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Rows on both sides, about the same prompts and owners; `source` says who answered `other`."""

    own: Rows
    other: Rows
    source: str

    def ends(self) -> tuple[Tensor, Tensor]:
        """[n, k] prefix ends for both sides: evenly spaced, the last one the whole answer."""

        def one(rows: Rows) -> Tensor:
            lengths = rows.batch.response_lengths
            share = torch.arange(1, PREFIXES + 1) / PREFIXES
            return (lengths[:, None] * share).ceil().long().clamp(min=1).minimum(lengths.clamp(min=1)[:, None])

        return one(self.own), one(self.other)


def gather_witnesses(
    context: ScorerContext, settings: CalibrationSettings, *, owners: tuple[str, ...] | None = None
) -> Witnesses:
    """Sample answers on both sides.

    The source without the owner is, in this order: the original model asked about another owner (its name then
    swapped back, so that names tell nothing), the base model, other owners' true answers.

    Args:
        owners: whose prompts to use; None: the forget owners'.
    """
    rng = random.Random(f"{context.seed}/witnesses")
    generator = torch.Generator().manual_seed(rng.getrandbits(62))
    rows = [row for owner in owners or context.forget_owners for row in context.rows_by_owner[owner]]
    repeats = -(-settings.rows // max(len(rows), 1)) if len(rows) < settings.rows else 1
    rows = rng.sample(rows * repeats, min(settings.rows, len(rows) * repeats))
    prompts = [row.prompt for row in rows]
    own = _sample(context, context.original, prompts, settings, generator)
    if context.can_swap:
        texts, source = _swapped_answers(context, rows, settings, generator), "the original model asked about another owner"
    elif context.base is not None:
        batches = _sample(context, context.base, prompts, settings, generator)
        texts, source = [context.codec.decode(ids) for ids in batches.response_lists()], "the base model"
    else:
        foreign = [row.response for owner in context.owners for row in context.rows_by_owner[owner]]
        mine = {row.response for owner in owners or context.forget_owners for row in context.rows_by_owner[owner]}
        texts, source = [rng.choice([text for text in foreign if text not in mine]) for _ in rows], "other owners' answers"
    names = [row.owner for row in rows]
    return Witnesses(
        Rows.from_tokens(context.codec, prompts, own, names), Rows.from_texts(context.codec, prompts, texts, names), source
    )


def true_answers(context: ScorerContext, most: int = 16) -> Rows:
    """True answers asked about their own owner, and again about another one: what any scorer must tell apart somewhere."""
    owners = list(dict.fromkeys([*context.forget_owners, *context.owners]))
    known = [row for owner in owners for row in context.rows_by_owner[owner][: max(most // len(owners), 1)]][:most]
    others = [owners[(owners.index(row.owner) + 1) % len(owners)] for row in known]
    prompts, responses = [row.prompt for row in known] * 2, [row.response for row in known] * 2
    return Rows.from_texts(context.codec, prompts, responses, [*(row.owner for row in known), *others])


def _sample(
    context: ScorerContext, model: LanguageModel, prompts: list[str], settings: CalibrationSettings, generator: torch.Generator
) -> TokenBatch:
    parts = [
        model.sample(part, max_new_tokens=settings.max_new_tokens, temperature=settings.temperature, generator=generator).to(
            "cpu"
        )
        for part in chunks(prompts, 64)
    ]
    return TokenBatch.from_lists(
        [ids for part in parts for ids in part.prompt_lists()],
        [ids for part in parts for ids in part.response_lists()],
        context.codec.pad_id,
    )


def _swapped_answers(
    context: ScorerContext, rows: list[Example], settings: CalibrationSettings, generator: torch.Generator
) -> list[str]:
    from deattrib.models.identities import swap_names

    # Another draw than any scorer makes (they count up from 0, this down): q'' is not the scorer's own q'.
    asked: list[tuple[str, str]] = []
    times: Counter[tuple[str, str]] = Counter()
    for row in rows:
        times[row.prompt, row.owner] += 1
        asked.append(context.counterfactual(row.prompt, row.owner, draw=-times[row.prompt, row.owner]))
    batch = _sample(context, context.original, [prompt for prompt, _ in asked], settings, generator)
    answers = [context.codec.decode(ids) for ids in batch.response_lists()]
    return [
        swap_names(text, context.identities[other], context.identities[row.owner])
        for text, row, (_, other) in zip(answers, rows, asked, strict=True)
    ]
