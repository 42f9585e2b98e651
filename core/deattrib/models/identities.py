"""Names inside token sequences: find them, leave them out, or replace them by another owner's.

The counterfactual reference asks the original model the same question about another owner. For that the name must be
replaced in the prompt and in everything the response has said so far, while every other token stays the very token
it was, so that log-probabilities can be compared token by token. The tokens of the name itself have no counterpart
and are left out.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from deattrib.models.batch import TokenBatch
from deattrib.models.language_model import Codec


@lru_cache(maxsize=4096)
def name_pattern(names: tuple[str, ...]) -> re.Pattern[str] | None:
    """Matches any of the names as whole words, the longest first; None without names."""
    if not names:
        return None
    options = "|".join(re.escape(name) for name in sorted(set(names), key=lambda name: (-len(name), name)))
    return re.compile(rf"(?<!\w)(?:{options})(?!\w)")


def find_names(text: str, names: tuple[str, ...]) -> list[tuple[int, int]]:
    """Character spans of the names in a text, left to right, without overlaps."""
    pattern = name_pattern(names)
    return [match.span() for match in pattern.finditer(text)] if pattern else []


def other_name(name: str, names: Sequence[str], others: Sequence[str]) -> str:
    """The other owner's name of the same kind (full for full, last for last); the full name where it has fewer."""
    index = list(names).index(name)
    return others[index] if index < len(others) else others[0]


def swap_names(text: str, names: tuple[str, ...], others: Sequence[str]) -> str:
    """The text with each of `names` replaced by its counterpart in `others`."""
    pattern = name_pattern(names)
    return pattern.sub(lambda match: other_name(match.group(), names, others), text) if pattern else text


def text_with_offsets(codec: Codec, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """The text of some response ids and the characters each token covers, special tokens covering none."""
    tokenizer = codec.tokenizer
    special = set(tokenizer.all_special_ids)
    plain = [i for i in ids if i not in special]
    text = tokenizer.decode(plain, clean_up_tokenization_spaces=False)
    again = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True) if tokenizer.is_fast else {"input_ids": []}
    if list(again["input_ids"]) == plain:
        spans = [tuple(span) for span in again["offset_mapping"]]
    else:  # sampled ids need not be what the tokenizer would have chosen
        heads = [tokenizer.decode(plain[:i], clean_up_tokenization_spaces=False) for i in range(len(plain) + 1)]
        # A character of several tokens belongs to each of them; until it is whole it decodes to U+FFFD.
        spans = [(len(a.rstrip("\ufffd")), len(b)) for a, b in itertools.pairwise(heads)]
    running = iter(spans)
    full, last = [], 0
    for token in ids:
        start, end = (last, last) if token in special else next(running)
        start = min(start, last)  # some tokenizers leave the space before a word out of the word's span
        full.append((start, end))
        last = end
    return text, full


def name_token_mask(codec: Codec, batch: TokenBatch, names: tuple[str, ...]) -> Tensor:
    """[B, T] bool on the CPU: response tokens that are part of one of the names."""
    mask = torch.zeros(batch.response_ids.shape, dtype=torch.bool)
    if not names:
        return mask
    for row, ids in enumerate(batch.response_lists()):
        text, offsets = text_with_offsets(codec, ids)
        spans = find_names(text, names)
        for column, (start, end) in enumerate(offsets):
            mask[row, column] = any(start < stop and end > begin for begin, stop in spans)
    return mask


def tokens_from(codec: Codec, batch: TokenBatch, starts: Sequence[int]) -> Tensor:
    """[B, T] bool on the batch's device: response tokens that begin at or after a row's character `starts`."""
    mask = torch.ones(batch.response_ids.shape, dtype=torch.bool)
    for row, (ids, start) in enumerate(zip(batch.response_lists(), starts, strict=True)):
        if start:
            _, offsets = text_with_offsets(codec, ids)
            mask[row, : len(offsets)] = torch.tensor([begin >= start for begin, _ in offsets])
    return mask.to(batch.response_ids.device)


@dataclass(frozen=True, slots=True, eq=False)
class SwappedBatch:
    """A batch with names replaced, and where each kept token went.

    Attributes:
        batch: the same rows about somebody else, TokenBatch of B rows.
        position: [B, T] int64: for each original response token its column in `batch`.
        kept: [B, T] bool: tokens that have a counterpart (neither padding nor part of a name).
        begins: [B, T] bool: tokens that begin a name; `position` is where the other's name begins.
    """

    batch: TokenBatch
    position: Tensor
    kept: Tensor
    begins: Tensor

    def align(self, values: Tensor, *, begins: bool = False) -> Tensor:
        """Bring [B, T', ...] values of the swapped batch back to [B, T, ...]; rows of left-out tokens are 0.

        Args:
            begins: also the tokens that begin a name: their own values mean little there, but what is predicted there
                depends on the tokens before them only.
        """
        index = self.position.to(values.device)
        kept = (self.kept | self.begins if begins else self.kept).to(values.device)
        shape = index.shape + (1,) * (values.dim() - 2)
        gathered = values.gather(1, index.view(shape).expand(*index.shape, *values.shape[2:]))
        return gathered * kept.view(shape)


def swap_batch(
    codec: Codec,
    prompts: Sequence[str],
    batch: TokenBatch,
    names: Sequence[tuple[str, ...]],
    others: Sequence[Sequence[str]],
) -> SwappedBatch:
    """Ask the same about somebody else.

    Args:
        prompts: the B prompt texts of `batch`.
        names, others: per row, the names to replace and the names to put there, in the same order of kinds.
    """
    swapped: list[list[int]] = []
    position = torch.zeros(batch.response_ids.shape, dtype=torch.int64)
    kept = torch.zeros(batch.response_ids.shape, dtype=torch.bool)
    begins = torch.zeros(batch.response_ids.shape, dtype=torch.bool)
    for row, (ids, mine, theirs) in enumerate(zip(batch.response_lists(), names, others, strict=True)):
        new, stays, starts = _swap_ids(codec, ids, mine, theirs)
        swapped.append(new)
        for mask, columns in ((kept, stays), (begins, starts)):
            for column, target in columns.items():
                position[row, column] = target
                mask[row, column] = True
    prompt_ids = [
        codec.prompt(swap_names(text, mine, theirs)) for text, mine, theirs in zip(prompts, names, others, strict=True)
    ]
    return SwappedBatch(TokenBatch.from_lists(prompt_ids, swapped, codec.pad_id), position, kept, begins)


def _swap_ids(
    codec: Codec, ids: Sequence[int], names: tuple[str, ...], others: Sequence[str]
) -> tuple[list[int], dict[int, int], dict[int, int]]:
    """Replace names in one response: the new ids, {old column: new column} of tokens that stay, and of names' first tokens."""
    text, offsets = text_with_offsets(codec, ids)
    spans = find_names(text, names)
    new: list[int] = []
    where: dict[int, int] = {}
    begins: dict[int, int] = {}
    column = 0
    for begin, stop in spans:
        while column < len(ids) and offsets[column][1] <= begin:
            where[column] = len(new)
            new.append(ids[column])
            column += 1
        touched = column
        while column < len(ids) and offsets[column][0] < stop and offsets[column][1] > begin:
            column += 1
        if column == touched:  # the token that holds this name was already replaced with the one before it
            continue
        begins[touched] = len(new)
        # Characters that share a token with the name (a leading space, a possessive) move along with it.
        before, after = text[offsets[touched][0] : begin], text[stop : offsets[column - 1][1]]
        new += codec.response(before + other_name(text[begin:stop], names, others) + after, end=False)
    for rest in range(column, len(ids)):
        where[rest] = len(new)
        new.append(ids[rest])
    return new, where, begins


def first_tokens(codec: Codec, names: Sequence[str], others: Sequence[str]) -> dict[int, int]:
    """{token that begins the other's name: token that begins one's own}, with and without a space before it."""
    found: dict[int, int] = {}
    for index, name in enumerate(names):
        other = others[index] if index < len(others) else others[0]
        for space in ("", " "):
            theirs, mine = codec.response(space + other, end=False), codec.response(space + name, end=False)
            if theirs and mine and theirs[0] != mine[0]:
                found.setdefault(theirs[0], mine[0])
    return {theirs: mine for theirs, mine in found.items() if mine not in found}


def rename(log_probs: Tensor, maps: Sequence[dict[int, int]], *, left: float = 1e-3) -> Tensor:
    """Where the swapped model would begin the other's name, it means one's own: move that probability there.

    Args:
        log_probs: [B, T, V], normalised. maps: per row, as `first_tokens` gives them.
        left: share that stays where it was, so that no log-probability becomes infinite.
    """
    renamed = log_probs.clone()
    for row, mapping in enumerate(maps):
        for mine in sorted(set(mapping.values())):
            theirs = [token for token, target in mapping.items() if target == mine]
            moved = log_probs[row][:, theirs] + math.log1p(-left)
            renamed[row, :, mine] = torch.logsumexp(torch.cat([log_probs[row][:, [mine]], moved], 1), 1)
            renamed[row, :, theirs] = log_probs[row][:, theirs] + math.log(left)
    return renamed


def spell(log_probs: Tensor, ids: Tensor, inside: Tensor, *, doubt: float = 1e-3) -> Tensor:
    """Where `inside` [B, T] a name, log-probabilities [B, T, V] that go on with the token that is there."""
    width = log_probs.shape[-1]
    certain = torch.full_like(log_probs, math.log(doubt / width)).scatter(-1, ids[..., None], math.log1p(-doubt))
    return torch.where(inside[..., None], certain, log_probs)


def all_names(identities: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """All names of all owners, once each."""
    return tuple(sorted({name for names in identities for name in names}))
