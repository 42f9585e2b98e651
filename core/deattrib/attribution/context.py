"""Making the context that scorers are fitted with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from deattrib.attribution.retraining import Retrainer
from deattrib.attribution.scorer import ScorerContext
from deattrib.corpus.types import Corpus, Example
from deattrib.models.language_model import LanguageModel


def make_context(
    corpus: Corpus,
    original: LanguageModel,
    *,
    base: LanguageModel | None = None,
    policy: Callable[[], Any] | None = None,
    seed: int = 0,
    cache: Path | None = None,
    half: int | None = None,
    retrainer: Retrainer | None = None,
    rank: int = 0,
) -> ScorerContext:
    """What a scorer may know.

    Args:
        half: 0 or 1 gives every other row of each owner only, facts with several phrasings being split within the
            fact: two scorers fitted on different halves share no row.
        retrainer: for scorers that retrain; always on all rows.
    """

    def rows_of(owner: str) -> tuple[Example, ...]:
        rows = sorted(corpus.rows_of(owner), key=lambda row: row.fact_id) if half is not None else corpus.rows_of(owner)
        return tuple(rows) if half is None else tuple(rows[half::2]) or tuple(rows)

    return ScorerContext(
        rows_by_owner={owner: rows_of(owner) for owner in corpus.owners},
        forget_owners=corpus.forget_owners,
        identities=corpus.identities,
        background=corpus.background,
        codec=original.codec,
        load_original=lambda: original,
        load_base=(lambda: base) if base is not None else None,
        load_policy=policy,
        device=original.device,
        dtype=next(original.model.parameters()).dtype,
        seed=seed,
        cache=cache,
        rank=rank,
        retrainer=retrainer,
    )
