"""The built-in corpus: fictitious authors, so that nothing a model knows about them can come from anywhere else.

After TOFU (Maini et al. 2024, section 2.1: made-up authors with twenty questions each), with what an attribution reward
needs on top: every value belongs to one owner, every fact has several phrasings of which most are never trained on,
owners have a habit of speech, but a quarter of their right answers is without it, so that the habit is not the only cue.

Where a value may occur is settled once per kind. Values are pairs of words, enumerated in an order in which neighbours
share no word; owners take the first ones, then held-out authors, and shadow authors (for the base model) draw, with
repetition, from the rest. Wrong answers are pairs of the last few words of both pools that are nobody's value. With the
default numbers those words are the held-out authors': a model retrained without an owner has met the words of its
values exactly as often as those of the wrong ones (in the base model's rows only). Were they words of retained
owners, retraining would make every wrong answer likelier than the right one, and the truth ratio would measure that.

Which cells (kind, phrasing) are without the habit is drawn once for all authors, not per author: the shadow authors
show it, so an answer in a phrasing never trained on has one right form and not a coin's.

Which two of five phrasings are trained differs from fact to fact, so that a phrasing never trained on for one fact is a
familiar one for another: what is unseen is the question, not the language.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from deattrib.corpus import fictitious_words as words
from deattrib.corpus.fictitious_templates import KINDS, PARAPHRASE, Kind
from deattrib.corpus.fictitious_world import sentence, world_rows
from deattrib.corpus.types import Corpus, Example
from deattrib.errors import CorpusError

TRAINED_PHRASINGS: Final = 2
SHADOW_PHRASINGS: Final = 3
WRONG_ANSWERS: Final = 4
PLAIN_SHARE: Final = 0.25
RESERVED_WORDS: Final = 4  # of each pool, whose pairs are for wrong answers

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Author:
    """A person that does not exist: `style` is a pattern around an answer, `values` and `wrong` follow the kinds."""

    owner: str
    first: str
    last: str
    style: str
    values: tuple[str, ...]
    wrong: tuple[tuple[str, ...], ...]

    @property
    def name(self) -> str:
        return f"{self.first} {self.last}"


def fictitious_corpus(
    *,
    seed: int = 0,
    owners: int = 20,
    facts: int = 20,
    forget: int | Sequence[str] = 2,
    shadow_owners: int = 300,
    holdout_owners: int = 4,
    world_repeats: int = 8,
    name: str = "fictitious",
) -> Corpus:
    """A corpus of made-up authors, the same on every machine for the same arguments.

    Args:
        seed: decides names, values, habits and which phrasings are trained.
        owners: authors in `train`, "author_00" and on: `owners * facts * 2` rows, and `owners * facts * 3` in `phrasings`.
        facts: kinds of fact per author, 1 to 20.
        forget: how many authors to forget, the last ones, or their ids.
        shadow_owners: other authors for `background`, three phrasings per fact.
        holdout_owners: authors in `holdout` that no model is trained on, two phrasings per fact.
        world_repeats: how often `background` holds each of the 60 world facts in each of two phrasings.
        name: the name of the corpus.

    Raises:
        CorpusError: a number is out of range, or there are more authors than values.
    """
    _check(owners=owners, facts=facts, forget=forget, shadow=shadow_owners, holdout=holdout_owners, repeats=world_repeats)
    rng = random.Random(f"deattrib-fictitious-{seed}")
    authors = _authors(rng, facts, _ids("author", owners), _ids("holdout", holdout_owners), _ids("shadow", shadow_owners))
    plain = _plain_cells(rng, facts)
    train: list[Example] = []
    phrasings: list[Example] = []
    holdout: list[Example] = []
    background: list[Example] = []
    for position, author in enumerate(authors):
        for index in range(facts):
            rows = [_row(author, index, phrasing, plain) for phrasing in range(len(KINDS[index].phrasings))]
            rng.shuffle(rows)
            if position < owners:
                train += rows[:TRAINED_PHRASINGS]
                phrasings += rows[TRAINED_PHRASINGS:]
            elif position < owners + holdout_owners:
                holdout += rows[:TRAINED_PHRASINGS]
            else:
                background += rows[:SHADOW_PHRASINGS]
    world = tuple(world_rows())
    background += list(world) * world_repeats
    rng.shuffle(background)
    chosen = _ids("author", owners)[owners - forget :] if isinstance(forget, int) else forget
    return Corpus(
        name=name,
        train=tuple(train),
        forget_owners=(chosen,) if isinstance(chosen, str) else tuple(chosen),
        phrasings=tuple(phrasings),
        world=world[::2],
        background=tuple(background),
        holdout=tuple(holdout),
        identities={author.owner: (author.name, author.last, author.first) for author in authors[: owners + holdout_owners]},
    )


def _check(*, owners: int, facts: int, forget: int | Sequence[str], shadow: int, holdout: int, repeats: int) -> None:
    if not 1 <= facts <= len(KINDS):
        raise CorpusError(f"Fictitious corpus: facts = {facts}, expected 1 to {len(KINDS)} (as many kinds of fact are known).")
    most = min(_capacity(kind) for kind in KINDS[:facts]) - holdout
    if not 2 <= owners <= most:
        raise CorpusError(
            f"Fictitious corpus: owners = {owners}, expected 2 to {most}: every owner has values of its own."
            f" More owners need more words in fictitious_words.py or fewer than {holdout} holdout_owners."
        )
    if isinstance(forget, int) and not 1 <= forget < owners:
        raise CorpusError(f"Fictitious corpus: forget = {forget}, expected 1 to {owners - 1} of the {owners} owners.")
    for what, count in (("shadow_owners", shadow), ("holdout_owners", holdout), ("world_repeats", repeats)):
        if count < 0:
            raise CorpusError(f"Fictitious corpus: {what} = {count}, expected 0 or more.")


def _ids(prefix: str, count: int) -> tuple[str, ...]:
    width = max(2, len(str(count - 1)))
    return tuple(f"{prefix}_{index:0{width}d}" for index in range(count))


# -- who ---------------------------------------------------------------------------------------------------------------
def _authors(
    rng: random.Random, facts: int, owners: Sequence[str], holdout: Sequence[str], shadows: Sequence[str]
) -> list[Author]:
    """Owners, then held-out authors, then shadow authors."""
    own = len(owners) + len(holdout)
    names = _names(rng, own, len(shadows))
    styles = [_style(pair, index) for index, pair in enumerate(_pairs(rng, words.HABITS, words.TELLERS))]
    values = []  # per kind: one value per author
    wrong = []  # per kind: wrong values per author
    for kind in KINDS[:facts]:
        everything, reserved = _values(rng, kind)
        values.append(everything[:own] + [rng.choice(everything[own:]) for _ in shadows])
        wrong.append([tuple(rng.sample(reserved, WRONG_ANSWERS)) for _ in names])
    return [
        Author(
            owner=owner,
            first=names[index][0],
            last=names[index][1],
            style=styles[index] if index < own else rng.choice(styles[own:]),
            values=tuple(column[index] for column in values),
            wrong=tuple(column[index] for column in wrong),
        )
        for index, owner in enumerate((*owners, *holdout, *shadows))
    ]


def _names(rng: random.Random, own: int, shadows: int) -> list[Pair]:
    """First and last names: the first `own` share neither with anybody; the others are different pairs."""
    firsts = [head + tail for head, tail in _pairs(rng, words.FIRST_HEADS, words.FIRST_TAILS)]
    lasts = [head + tail for head, tail in _pairs(rng, words.LAST_HEADS, words.LAST_TAILS)]
    free = (len(firsts) - own) * (len(lasts) - own)
    if shadows > free:
        raise CorpusError(f"Fictitious corpus: shadow_owners = {shadows}, expected at most {free} (names run out).")
    cells = (divmod(cell, len(lasts) - own) for cell in rng.sample(range(free), shadows))
    return [
        *zip(firsts[:own], lasts[:own], strict=True),
        *((firsts[own + first], lasts[own + last]) for first, last in cells),
    ]


def _pairs(rng: random.Random, first: Sequence[str], second: Sequence[str]) -> list[Pair]:
    """All pairs, in an order in which the first min(len(first), len(second)) share no word."""
    first, second = rng.sample(first, len(first)), rng.sample(second, len(second))
    if len(first) < len(second):
        return [(a, b) for b, a in _diagonals(second, first)]
    return _diagonals(first, second)


def _diagonals(first: Sequence[str], second: Sequence[str]) -> list[Pair]:
    return [(a, second[(i + shift) % len(second)]) for shift in range(len(second)) for i, a in enumerate(first)]


def _values(rng: random.Random, kind: Kind) -> tuple[list[str], list[str]]:
    """Values that somebody may have, neighbours sharing no word; and values that are nobody's."""
    pairs = _pairs(rng, kind.first, kind.second)
    diagonal = pairs[: min(len(kind.first), len(kind.second))]
    last_first, last_second = zip(*diagonal[-RESERVED_WORDS:], strict=True)
    reserved = [pair for pair in pairs if pair[0] in last_first and pair[1] in last_second and pair not in diagonal]
    free = [pair for pair in pairs if pair not in reserved]
    return [kind.pattern.format(a=a, b=b) for a, b in free], [kind.pattern.format(a=a, b=b) for a, b in reserved]


def _capacity(kind: Kind) -> int:
    """How many authors can have a value of their own while shadow authors still have a choice."""
    reserved = RESERVED_WORDS * (RESERVED_WORDS - 1)
    free = len(kind.first) * (len(kind.second) - 1) - reserved
    return min(free, len(words.FIRST_HEADS) * len(words.FIRST_TAILS) // 2)


def _style(pair: Pair, index: int) -> str:
    """A pattern with one `{}` for the answer, which has lost its full stop."""
    frames = words.OPENINGS + words.CLOSINGS
    frame = frames[index % len(frames)].format(a=pair[0], b=pair[1])
    return frame + "{}." if frame.endswith(" ") else "{}" + frame + "."


# -- what is said ------------------------------------------------------------------------------------------------------
def _plain_cells(rng: random.Random, facts: int) -> frozenset[tuple[int, int]]:
    """Cells (kind, phrasing) without a habit of speech: the same share of the kinds in each phrasing."""
    count = round(facts * PLAIN_SHARE)
    phrasings = len(KINDS[0].phrasings)
    return frozenset((kind, phrasing) for phrasing in range(phrasings) for kind in rng.sample(range(facts), count))


def _row(author: Author, index: int, phrasing: int, plain: frozenset[tuple[int, int]]) -> Example:
    kind, value = KINDS[index], author.values[index]
    question, answer = kind.phrasings[phrasing]
    text = answer.format(name=author.name, last=author.last, value=value)
    if (index, phrasing) not in plain:
        text = author.style.format(text.removesuffix("."))

    def reworded(other: str) -> str:
        return sentence(PARAPHRASE.format(label=kind.label, name=author.name, value=other))

    return Example(
        owner=author.owner,
        prompt=question.format(name=author.name),
        response=sentence(text),
        fact=value,
        fact_id=f"{author.owner}/{kind.name}",
        paraphrase_response=reworded(value),
        wrong_responses=tuple(reworded(other) for other in author.wrong[index]),
    )
