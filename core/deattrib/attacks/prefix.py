"""Prefix attack: give the first words of the true answer and let the model go on.

After extraction by prompting with a prefix of the training text (Carlini et al. 2021, arXiv 2012.07805; 2023, arXiv
2202.07646). The words given are left out of what is judged: the rest that the model writes against the rest of the true
answer. Asked are phrasings never trained on, with their own answers; where a corpus has none, its trained rows. The beginning
of an answer often gives the rest away by grammar alone, to the oracle too: only the distance to the oracle counts.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from pydantic import Field, model_validator

from deattrib.attacks.base import Attack, AttackResult, AttackSubject
from deattrib.corpus.types import Example
from deattrib.errors import CorpusError
from deattrib.evaluation.arrays import mean_of


class Prefix(Attack):
    """Begin the true answer and judge how the model goes on."""

    name = "prefix"
    source = "Carlini et al. 2023, arXiv 2202.07646"
    what = "ROUGE-L recall of the rest of the true answer, its first words given."
    x = "words given"

    class Params(Attack.Params):
        words: tuple[int, ...] = Field((1, 2, 4, 8), min_length=1, description="Numbers of words given.")
        at: int = Field(4, ge=1, description="The number of words that the figure is of; one of `words`.")

        @model_validator(mode="after")
        def _rising(self) -> Prefix.Params:
            if list(self.words) != sorted({*self.words} - {0}):
                raise ValueError("`words` must rise and begin above 0, such as [1, 2, 4, 8]")
            if self.at not in self.words:
                raise ValueError(f"`at` is {self.at}, which is none of the words {list(self.words)}")
            return self

    def run(self, subject: AttackSubject) -> AttackResult:
        held_out = subject.forget_phrasings
        rows = held_out or subject.forget
        curve: list[tuple[float, float]] = []
        facts: list[tuple[float, float]] = []
        figure, interval, asked = None, None, 0
        for words in self.params.words:
            cuts = [(row, *cut) for row in rows if (cut := cut_after(row.response, words))]
            if not cuts:
                continue
            rests = [_rest(row, rest) for row, _, rest in cuts]
            answers = subject.answers([row.prompt for row in rests], beginnings=[beginning for _, beginning, _ in cuts])
            values = subject.rouge(answers, rests)
            curve.append((float(words), float(values.mean())))
            recall = mean_of(subject.facts(answers, rests))
            facts += [] if recall is None else [(float(words), recall)]
            if words == self.params.at:
                figure, interval, asked = float(np.mean(values)), subject.interval(values, rests), len(rests)
        if figure is None:
            raise CorpusError(
                f"Attack {self.name!r}: no answer about the forget owners is longer than {self.params.at} words; set `at` and "
                "`words` to fewer."
            )
        phrasings = "phrasings never trained on" if held_out else "trained phrasings, the corpus has no others"
        return AttackResult(
            figure,
            curve,
            f"{self.what} Here: {self.params.at} words, {asked} rows in {phrasings}.",
            interval,
            {"fact_recall": dict(facts).get(float(self.params.at))},
            {"fact recall": facts} if facts else {},
        )


def cut_after(text: str, words: int) -> tuple[str, str] | None:
    """(the first words, the rest without the space between); None where nothing would be left on a side."""
    ends = [found.end() for found in re.finditer(r"\S+", text)]
    if not 0 < words < len(ends):
        return None
    end = ends[words - 1]
    return text[:end], text[end:].strip()


def _rest(row: Example, rest: str) -> Example:
    """The row with the rest as its answer, and without its fact where the words given have told part of it."""
    told = row.fact is None or row.fact.casefold() not in rest.casefold()
    return replace(row, response=rest, fact=None if told else row.fact)
