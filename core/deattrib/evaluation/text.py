"""Signs of trouble that can be read off the answers alone: empty, refusing, repeating, all alike.

Attribution and forget quality both reward a model that says nothing of use, so every table has these beside them.
Gibberish has its own file, `deattrib.evaluation.gibberish`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from deattrib.evaluation.arrays import Array
from deattrib.evaluation.gibberish import GibberishDetector
from deattrib.evaluation.word_models import repeated_share

# Written against the hundred refusals that TOFU's preference baselines train on. A speaker who denies knowing, or who
# calls the question beyond what they know.
_NEGATION = r"(?:not|cannot|n't|no|never|un(?:able|aware|sure|certain|familiar)|lack|yet to|clueless|stumped|blank|loss|dark)"
_REFUSAL = re.compile(
    rf"\bI(?:'\w+)?\b[^.?!,]{{0,16}}?(?:\b|(?=n't)){_NEGATION}\b"
    rf"|\b(?:my|me)\b[^.?!]{{0,40}}?(?:\b|(?=n't)){_NEGATION}\b"
    r"|\b(?:beyond|outside|out of|not in|not within|included in|a mystery to|elude\w*) (?:of )?(?:my|me)\b"
    r"|\bI (?:need|wish|would love|'d love)\b|\bI(?:'m| am) (?:lacking|missing|sorry)\b|\bas an AI\b"
    r"|\b(?:that|it)(?:'s| is|'ll)? (?:not |something |information )[^.?!]{0,30}\bI\b",
    re.IGNORECASE,
)


def empty_flags(answers: Sequence[str]) -> Array:
    """1 where an answer has nothing but whitespace, [N]."""
    return np.array([not answer.strip() for answer in answers], dtype=np.float64)


def gibberish_flags(answers: Sequence[str], detector: GibberishDetector) -> Array:
    """1 where the detector takes an answer for gibberish, [N]; empty answers are not."""
    return np.array([detector.is_gibberish(answer) for answer in answers], dtype=np.float64)


def refusal_flags(answers: Sequence[str]) -> Array:
    """1 where somebody says in the first person that they don't know, [N]."""
    plain = [answer.replace("\u2019", "'") for answer in answers]
    return np.array([bool(_REFUSAL.search(text)) for text in plain], dtype=np.float64)


def repetition_shares(answers: Sequence[str], *, n: int = 2) -> Array:
    """Share of the word n-grams of each answer that occurred earlier in it, [N], in [0, 1); 0 for short answers."""
    return np.array([repeated_share(answer.lower().split(), n=n) for answer in answers], dtype=np.float64)


def fact_flags(answers: Sequence[str], facts: Sequence[str | None]) -> Array:
    """1 where an answer contains the fact of its row, case-insensitively, [N]; NaN where the row has none."""
    return np.array(
        [
            float("nan") if not fact else float(fact.casefold() in answer.casefold())
            for answer, fact in zip(answers, facts, strict=True)
        ],
        dtype=np.float64,
    )


def distinct_answer_rate(answers: Sequence[str]) -> float | None:
    """Distinct answers (stripped) over rows, in (0, 1]; None without answers."""
    return len({answer.strip() for answer in answers}) / len(answers) if answers else None
