"""Exact attribution of the probes: log-probabilities under models retrained without one owner, and under random halves.

The exact value of a response y to x for owner i is the mean over seeds of (log p_N(y | x) - log p_{N - i}(y | x)) / T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deattrib.attribution.retraining import Retrainer
from deattrib.attribution.scorer import Rows
from deattrib.audit.probes import AT_ONCE
from deattrib.audit.statistics import Array
from deattrib.errors import RunError
from deattrib.models.language_model import LanguageModel

Job = tuple[frozenset[str], int]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Means per token, in nats.

    Attributes:
        full: [R, S] log-probability under the model of all owners, seed by seed.
        without: [R, O, S] the same without each audited owner.
        halves: [R, M, K] the same of models trained on a half of the owners; M may be 0.
        trained_on: [M, owners of the corpus] who is in each half.
    """

    full: Array
    without: Array
    halves: Array
    trained_on: npt.NDArray[np.bool_]

    @property
    def by_seed(self) -> Array:
        """[R, O, S]."""
        return self.full[:, None, :] - self.without

    @property
    def exact(self) -> Array:
        """[R, O]."""
        values: Array = self.by_seed.mean(2)
        return values


@dataclass(frozen=True, slots=True)
class Plan:
    """Which models are needed.

    Attributes:
        owners: audited, in order; everybody: all owners of the corpus.
        seeds, half_seeds: absolute seeds, the run's own first.
        trained_on: [M, owners of the corpus].
    """

    owners: tuple[str, ...]
    everybody: tuple[str, ...]
    seeds: tuple[int, ...]
    half_seeds: tuple[int, ...]
    trained_on: npt.NDArray[np.bool_]

    def halves(self) -> list[frozenset[str]]:
        """Who is left out of each half."""
        return [
            frozenset(name for name, inside in zip(self.everybody, row, strict=True) if not inside) for row in self.trained_on
        ]

    def jobs(self) -> list[Job]:
        """(who is left out, seed) of every model, each once."""
        single: list[frozenset[str]] = [frozenset(), *(frozenset([owner]) for owner in self.owners)]
        wanted = [(some, seed) for some in single for seed in self.seeds]
        wanted += [(some, seed) for some in self.halves() for seed in self.half_seeds]
        return list(dict.fromkeys(wanted))


def check_budget(plan: Plan, retrainer: Retrainer, max_minutes: float) -> tuple[int, float]:
    """(models to train, estimated minutes).

    Raises:
        RunError: it would take longer than allowed.
    """
    jobs = plan.jobs()
    missing = [(some, seed) for some, seed in jobs if not retrainer.cached(without=some, seed=seed)]
    minutes = len(missing) * retrainer.seconds() / 60 if missing else 0.0
    if minutes > max_minutes:
        raise RunError(
            f"The audit would train {len(missing)} models ({len(jobs) - len(missing)} of {len(jobs)} are there already): about "
            f"{minutes:.1f} minutes, and --max-minutes is {max_minutes:g}. Audit fewer owners (now {len(plan.owners)}), seeds "
            f"(now {len(plan.seeds)}) or halves (now {len(plan.trained_on)} x {len(plan.half_seeds)}), or raise it."
        )
    return len(missing), minutes


def measure_truth(plan: Plan, retrainer: Retrainer, rows: Rows, *, say: Callable[[str], None]) -> Truth:
    """Make or load one model after the other and read what it says of every row."""
    jobs = plan.jobs()
    found: dict[Job, Array] = {}
    for number, (some, seed) in enumerate(jobs, 1):
        say(f"model {number} of {len(jobs)}")
        found[some, seed] = mean_log_probs(retrainer.model(without=some, seed=seed), rows)

    def level(some: frozenset[str], seeds: Sequence[int]) -> Array:
        return np.stack([found[some, seed] for seed in seeds], -1)

    halves = [level(some, plan.half_seeds) for some in plan.halves()]
    return Truth(
        level(frozenset(), plan.seeds),
        np.stack([level(frozenset([owner]), plan.seeds) for owner in plan.owners], 1),
        np.stack(halves, 1) if halves else np.zeros((len(rows), 0, len(plan.half_seeds))),
        plan.trained_on,
    )


def mean_log_probs(model: LanguageModel, rows: Rows) -> Array:
    """[R] log-probability per response token."""
    sums = [
        model.token_log_probs(rows.batch.rows(slice(start, start + AT_ONCE))).cpu().double().sum(1).numpy()
        for start in range(0, len(rows), AT_ONCE)
    ]
    lengths = rows.batch.response_lengths.clamp(min=1).cpu().double().numpy()
    values: Array = np.concatenate(sums) / lengths
    return values
