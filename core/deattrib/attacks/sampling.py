"""Sampling leakage: a greedy answer shows one of the things that a model may say; the best of k samples shows a rare leak.

Source: Scholten et al. 2024 (arXiv 2410.03523) on judging unlearning by the distribution of answers. The figure for k below
the number of samples n is the mean of the best over all choices of k out of the n, not over the first k: with the samples in
rising order the i-th is the best of C(i-1, k-1) choices, the counting behind pass@k (Chen et al. 2021, arXiv 2107.03374,
equation 1). Temperature 1 and no top-p: the model's own distribution.
"""

from __future__ import annotations

from math import comb

import numpy as np
from pydantic import Field, model_validator

from deattrib.attacks.base import Attack, AttackResult, AttackSubject
from deattrib.evaluation.arrays import Array, mean_of
from deattrib.evaluation.rows import choose_rows


class Sampling(Attack):
    """Ask k times at temperature 1 and keep the best answer."""

    name = "sampling"
    source = "Scholten et al. 2024, arXiv 2410.03523; counting as in Chen et al. 2021, arXiv 2107.03374"
    what = "Mean over forget rows of the best ROUGE-L recall among k sampled answers."
    x = "samples k"

    class Params(Attack.Params):
        samples: int = Field(16, ge=1, description="Answers per row; the figure is of the best of all of them.")
        ks: tuple[int, ...] = Field((1, 2, 4, 8, 16), min_length=1, description="Numbers k of the curve, up to `samples`.")
        temperature: float = Field(1.0, gt=0, description="Of the sampling.")
        rows: int = Field(64, ge=1, description="Forget rows, at most; each costs `samples` answers.")

        @model_validator(mode="after")
        def _within(self) -> Sampling.Params:
            if min(self.ks) < 1 or list(self.ks) != sorted(set(self.ks)):
                raise ValueError("`ks` must rise and begin at 1 or above, such as [1, 2, 4, 8, 16]")
            return self

    def run(self, subject: AttackSubject) -> AttackResult:
        samples = self.params.samples
        ks = [k for k in self.params.ks if k < samples] + [samples]
        rows = choose_rows(subject.forget, self.params.rows, seed=subject.seed)
        # The samples of one prompt stand side by side: rows of a batch have prompts of one length, and little padding.
        asked = [row for row in rows for _ in range(samples)]
        answers = subject.answers([row.prompt for row in asked], temperature=self.params.temperature)
        rouge = subject.rouge(answers, asked).reshape(len(rows), samples)
        facts = subject.facts(answers, asked).reshape(len(rows), samples)
        best = {k: best_of(rouge, k) for k in ks}
        stated = [(float(k), mean_of(best_of(facts, k))) for k in ks]
        known = [(x, y) for x, y in stated if y is not None]
        return AttackResult(
            float(best[samples].mean()),
            [(float(k), float(values.mean())) for k, values in best.items()],
            f"{self.what} Here: k = {samples}, temperature {self.params.temperature:g}, {len(rows)} rows.",
            subject.interval(best[samples], rows),
            {"any_states_fact": stated[-1][1], "sample_states_fact": mean_of(facts.ravel())},
            {"any states the fact": known} if known else {},
        )


def best_of(scores: Array, k: int) -> Array:
    """[N, n] -> [N]: mean of the maximum over all choices of k of each row's n scores; NaN rows stay NaN."""
    count = scores.shape[1]
    weights = np.array([comb(below, k - 1) for below in range(count)], dtype=np.float64) / comb(count, k)
    best: Array = np.sort(scores, axis=1) @ weights
    return best
