"""ROUGE-L recall of answers against references (Lin 2004), as TOFU measures it (Maini et al. 2024, section 2.2.2).

Longest common subsequence of stemmed words over the number of words in the reference, by the `rouge_score` package.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def _scorer() -> Any:
    from rouge_score import rouge_scorer  # pulls in nltk: only when a score is asked for

    return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)


@lru_cache(maxsize=100_000)
def _recall(prediction: str, reference: str) -> float:
    return float(_scorer().score(reference, prediction)["rougeL"].recall)


def rouge_l_recall(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """ROUGE-L recall in [0, 1] of each prediction against the reference of the same row; 0 for an empty one of either.

    Raises:
        ValueError: where the two differ in length.
    """
    return [_recall(prediction, reference) for prediction, reference in zip(predictions, references, strict=True)]
