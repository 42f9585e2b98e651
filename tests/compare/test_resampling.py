"""The bootstrap resamples seeds and facts, the same ones for every method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from deattrib.compare.folders import ComparedRun
from deattrib.compare.resampling import ks_distances, resampled
from deattrib.compare.score import closenesses, score
from deattrib.evaluation.row_file import RowFigures

Make = Callable[..., ComparedRun]


def parts(run: ComparedRun) -> list[str]:
    return list(closenesses(run.rows))


def of(run: ComparedRun) -> float:
    found = closenesses(run.rows)
    value = score(found, found)
    assert value is not None
    return value


def test_weighted_ks_distance_is_scipys_on_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    left, right = np.round(rng.normal(size=30), 1), np.round(rng.normal(0.4, size=30), 1)  # rounded: there are ties
    left[3] = np.nan
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=20).astype(float)
    for row, distance in zip(weights, ks_distances(left, right, weights), strict=True):
        times = row.astype(int)
        first, second = np.repeat(left, times), np.repeat(right, times)
        assert distance == pytest.approx(ks_2samp(first[~np.isnan(first)], second).statistic)


def test_one_fact_and_one_seed_leave_nothing_to_chance(make_run: Make) -> None:
    """Every draw is then the run itself, so the resampled score is the score that metrics.json gives."""
    run = make_run()
    assert run.figures is not None
    whole = {part: ("one",) * len(labels) for part, labels in run.figures.clusters.items()}
    single = replace(run, figures=RowFigures(run.figures.columns, whole))
    np.testing.assert_allclose(resampled([single], parts(run), samples=5), of(run), rtol=1e-5)


def test_draws_surround_the_score_and_differ(make_run: Make) -> None:
    run = make_run(share=0.3)
    draws = resampled([run], parts(run), samples=400)
    assert draws.std() > 0.001
    assert np.quantile(draws, 0.01) < of(run) < np.quantile(draws, 0.99)


def test_draws_are_paired_over_methods(make_run: Make) -> None:
    """The same facts and seeds are drawn for both: what they share cancels, and a method differs from itself by nothing."""
    first = [make_run("dareu", seed=seed, share=0.30) for seed in range(3)]
    again = [make_run("npo", seed=seed, share=0.30) for seed in range(3)]
    worse = [make_run("ga", seed=seed, share=0.34) for seed in range(3)]
    draws = [resampled(runs, parts(runs[0]), samples=300) for runs in (first, again, worse)]
    np.testing.assert_array_equal(draws[0], draws[1])
    gap = draws[0] - draws[2]
    apart = draws[0] - np.random.default_rng(1).permutation(draws[2])
    assert gap.std() < 0.7 * apart.std()


def test_without_figures_of_single_rows_only_seeds_are_drawn(make_run: Make) -> None:
    runs = [make_run(seed=seed, share=0.1 * (seed + 1), rows=False) for seed in range(3)]
    draws = resampled(runs, parts(runs[0]), samples=500)
    scores = sorted(of(run) for run in runs)
    assert {round(value, 9) for value in draws} == {round(value, 9) for value in scores}
    # The median of three draws with replacement is the middle one in 13 of 27 cases, either end in 7.
    assert np.mean(np.isclose(draws, scores[1])) == pytest.approx(13 / 27, abs=0.08)


def test_a_part_without_rows_keeps_its_figure(make_run: Make) -> None:
    run = make_run()
    assert run.figures is not None
    columns = {name: values for name, values in run.figures.columns.items() if "/fact" not in name}
    less = replace(run, figures=RowFigures(columns, run.figures.clusters))
    assert np.isfinite(resampled([less], parts(run), samples=20)).all()
