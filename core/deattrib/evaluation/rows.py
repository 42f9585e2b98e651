"""Everything that an evaluation needs from one model: its greedy answers and what it thinks of given ones.

This is the only part of the evaluation that runs a model; `deattrib.evaluation.summary` makes a table row of it.
Which rows are asked depends on corpus and settings alone, so two models evaluated alike can be compared row by row.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import Queue
from typing import Any, ClassVar

import numpy as np

from deattrib.corpus.types import Corpus, Example
from deattrib.evaluation.arrays import Array
from deattrib.evaluation.likelihood import RowLikelihoods, row_likelihoods
from deattrib.evaluation.rouge import rouge_l_recall
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.evaluation.text import fact_flags
from deattrib.models.batch import chunks
from deattrib.models.language_model import LanguageModel

REAL_AUTHORS = "real_authors"  # world rows whose fact_id starts with this are TOFU's real authors


def clusters_of(rows: Sequence[Example]) -> tuple[tuple[str, str], ...]:
    """Owner and fact of each row; a row without fact_id is a cluster of its own."""
    return tuple((row.owner, row.fact_id or f"row {index}") for index, row in enumerate(rows))


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedRows:
    """One model's figures for N rows; arrays [N], NaN where a row lacks what a figure needs.

    Attributes:
        rows: what was asked.
        greedy: the model's greedy answers.
        greedy_tokens: their length in tokens, end of sequence not counted.
        rouge: ROUGE-L recall of the greedy answers.
        fact: 1 where the greedy answer contains the fact, else 0.
        likelihoods: of the right, reworded and wrong answers.
    """

    rows: tuple[Example, ...]
    greedy: tuple[str, ...]
    greedy_tokens: Array
    rouge: Array
    fact: Array
    likelihoods: RowLikelihoods

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def probability(self) -> Array:
        """exp(−mean token loss) of the true answer [N], in [0, 1]."""
        return self.likelihoods.answer.probability

    @property
    def truth_ratio(self) -> Array:
        """R [N], at least 0: wrong answers over the reworded right one (TOFU, section 2.2.1)."""
        return self.likelihoods.truth_ratio

    @property
    def normalised_probability(self) -> Array:
        """The true answer's probability over the sum of it and the wrong answers' [N], in [0, 1]."""
        return self.likelihoods.normalised_probability

    @property
    def extraction_strength(self) -> Array:
        """1 − k/T [N], in [0, 1]: k the shortest prefix after which every argmax is right; 0 where none is."""
        return self.likelihoods.answer.extraction_strength

    @property
    def exact_memorisation(self) -> Array:
        """Share of the true answer's tokens whose argmax is right [N], in [0, 1]."""
        return self.likelihoods.answer.exact_memorisation

    @property
    def clusters(self) -> tuple[tuple[str, str], ...]:
        """Of each row, see `clusters_of`."""
        return clusters_of(self.rows)

    def records(self) -> Iterator[dict[str, Any]]:
        """One JSON-ready dictionary per row, None for NaN."""
        columns = ("rouge", "fact", "probability", "truth_ratio", "extraction_strength", "exact_memorisation", "greedy_tokens")
        figures = {name: np.asarray(getattr(self, name), dtype=np.float64) for name in columns}
        for index, (row, answer) in enumerate(zip(self.rows, self.greedy, strict=True)):
            numbers = {name: None if np.isnan(column[index]) else float(column[index]) for name, column in figures.items()}
            yield {
                "owner": row.owner,
                "fact_id": row.fact_id,
                "prompt": row.prompt,
                "response": row.response,
                "greedy": answer,
            } | numbers


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What one model does with a corpus.

    Attributes:
        model: its name.
        settings: what was asked for.
        forget: trained and held-out phrasings of the forget owners.
        retain: trained rows of the other owners.
        retain_phrasings: held-out phrasings of the other owners; no truth ratios.
        world: questions about the world.
    """

    PARTS: ClassVar[tuple[str, ...]] = ("forget", "retain", "retain_phrasings", "world")

    model: str
    settings: EvaluationSettings
    forget: EvaluatedRows
    retain: EvaluatedRows
    retain_phrasings: EvaluatedRows
    world: EvaluatedRows


def evaluate_parts(
    model: LanguageModel, parts: Mapping[str, Sequence[Example]], settings: EvaluationSettings, *, side_by_side: bool = False
) -> Evaluation:
    """Ask a model about the rows of `evaluation_rows` everything that its table row needs; its answers are greedy ones.

    Args:
        side_by_side: ask about two parts at a time, where a second processor is free; the figures are the same.
    """

    def asked(model: LanguageModel, name: str) -> EvaluatedRows:
        # No figure of the table needs the truth ratio of retain owners' held-out phrasings, and it costs the most.
        return evaluate_rows(model, parts[name], settings, ratios=name != "retain_phrasings")

    if not side_by_side:
        return Evaluation(model.name, settings, **{name: asked(model, name) for name in parts})
    own = Queue[LanguageModel]()  # modules are not shared between threads
    own.put(model)
    own.put(model.apart())

    def ask(name: str) -> EvaluatedRows:
        mine = own.get()
        try:
            return asked(mine, name)
        finally:
            own.put(mine)

    with ThreadPoolExecutor(2) as pool:
        figures = {name: pool.submit(ask, name) for name in parts}
        try:
            return Evaluation(model.name, settings, **{name: future.result() for name, future in figures.items()})
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def evaluation_rows(corpus: Corpus, settings: EvaluationSettings) -> dict[str, tuple[Example, ...]]:
    """The rows of each part of an `Evaluation`, by the part's name."""
    wanted = {
        "forget": (corpus.forget + corpus.forget_phrasings, settings.forget_rows),
        "retain": (corpus.retain, settings.retain_rows),
        "retain_phrasings": (corpus.retain_phrasings, settings.retain_phrasing_rows),
        "world": (corpus.world, settings.world_rows),
    }
    return {name: choose_rows(rows, most, seed=settings.seed) for name, (rows, most) in wanted.items()}


def choose_rows(rows: Sequence[Example], most: int, *, seed: int) -> tuple[Example, ...]:
    """At most `most` rows, as many of each owner as can be, seeded, in their old order."""
    if len(rows) <= most:
        return tuple(rows)
    rng = random.Random(f"evaluation-rows-{seed}")
    by_owner: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_owner.setdefault(row.owner, []).append(index)
    for indices in by_owner.values():
        rng.shuffle(indices)
    # Turn by turn: every owner's first row, in random order of owners, then every owner's second.
    owners = list(by_owner.values())
    rng.shuffle(owners)
    turns = (indices[turn] for turn in range(max(map(len, owners))) for indices in owners if turn < len(indices))
    return tuple(rows[index] for index in sorted(index for index, _ in zip(turns, range(most), strict=False)))


def evaluate_rows(
    model: LanguageModel, rows: Sequence[Example], settings: EvaluationSettings, *, ratios: bool = True
) -> EvaluatedRows:
    """Greedy answers and likelihoods of some rows, which may be none; without `ratios` those are NaN and cost nothing."""
    prompts = [row.prompt for row in rows]
    scored = rows if ratios else [replace(row, paraphrase_response=None, wrong_responses=()) for row in rows]
    greedy = model.generate(prompts, max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size) if rows else []
    return EvaluatedRows(
        rows=tuple(rows),
        greedy=tuple(greedy),
        greedy_tokens=token_counts(model, prompts, greedy, batch_size=settings.batch_size),
        rouge=np.array(rouge_l_recall(greedy, [row.response for row in rows]), dtype=np.float32),
        fact=fact_flags(greedy, [row.fact for row in rows]),
        likelihoods=row_likelihoods(model, scored, mean=settings.truth_ratio_mean, batch_size=settings.batch_size),
    )


def token_counts(model: LanguageModel, prompts: Sequence[str], answers: Sequence[str], *, batch_size: int = 64) -> Array:
    """Length of each answer in the model's tokens, without end of sequence, [N]."""
    counts: list[int] = []
    for part in chunks(range(len(answers)), batch_size):
        batch = model.encode([prompts[i] for i in part], [answers[i] for i in part], end=False)
        counts += batch.response_lengths.tolist()
    return np.array(counts, dtype=np.float64)
