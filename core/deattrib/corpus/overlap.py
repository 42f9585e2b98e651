"""Semantic overlap: some of what is to be forgotten is also said, in other words, by owners who are to be retained.

After the overlap experiment of Lu et al. 2026 (arXiv 2605.30919), where paraphrases of forget rows are put into the retain
set. The model retrained without the forget owners then knows those facts, and so should the unlearned one: the aim is the
oracle, not ignorance. How they paraphrased is not published; here a phrasing that the corpus keeps from training becomes a
trained row of a retain owner, and is no longer among the phrasings, which stay unseen.
"""

from __future__ import annotations

import dataclasses
import random

from deattrib.corpus.types import Corpus
from deattrib.errors import CorpusError


def with_overlap(corpus: Corpus, share: float, *, seed: int) -> Corpus:
    """The corpus with one more phrasing of some forget facts given to retain owners, turn by turn, behind their own rows.

    Args:
        share: of the forget facts that have a phrasing kept from training, in [0, 1]; at least one unless it is 0.
        seed: chooses facts and phrasings.

    Raises:
        CorpusError: the corpus has no phrasings of forget facts.
    """
    if share == 0:
        return corpus
    facts: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(corpus.phrasings):
        if row.owner in corpus.forget_owners:
            facts.setdefault((row.owner, row.fact_id or f"row {index}"), []).append(index)
    if not facts:
        raise CorpusError(
            f"corpus.overlap is {share}, but corpus {corpus.name!r} has no forget facts in phrasings kept from training: give "
            "`paraphrase_prompt` in its rows, or set overlap to 0."
        )
    rng = random.Random(f"overlap-{seed}")
    chosen = rng.sample(list(facts), max(round(share * len(facts)), 1))
    taken = {rng.choice(facts[fact]) for fact in chosen}
    owners = rng.sample(corpus.retain_owners, len(corpus.retain_owners))
    given = [
        dataclasses.replace(corpus.phrasings[index], owner=owners[turn % len(owners)])
        for turn, index in enumerate(sorted(taken))
    ]
    return dataclasses.replace(
        corpus,
        train=(*corpus.train, *given),
        phrasings=tuple(row for index, row in enumerate(corpus.phrasings) if index not in taken),
    )
