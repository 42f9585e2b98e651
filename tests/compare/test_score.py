"""The score is the stated formula, and nothing else."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest

from deattrib.compare.folders import ComparedRun
from deattrib.compare.score import PARTS, attacks, closeness, closenesses, collapse, score, score_of_group

Make = Callable[..., ComparedRun]


@pytest.mark.parametrize(
    ("value", "original", "oracle", "expected"),
    [
        (0.5, 0.9, 0.4, 1 - 0.1 / 0.5),  # a fifth of the way left
        (0.3, 0.9, 0.4, 1 - 0.1 / 0.5),  # as far beyond the oracle: as bad
        (0.9, 0.9, 0.4, 0.01),  # nothing done
        (9.0, 0.9, 0.4, 0.01),  # farther than the original: no worse than that
        (0.4, 0.9, 0.4, 1.0),
        (0.98, 1.0, 1.0, 1 - 0.02 / 0.05),  # original and oracle alike: 0.05 is the distance
        (0.97, 1.0, 0.99, 1 - 0.02 / 0.05),
        (0.19, 0.88, 0.0, 1 - 0.19 / 0.88),  # KS distance: the oracle's own is 0
    ],
)
def test_closeness_is_the_formula(value: float, original: float, oracle: float, expected: float) -> None:
    assert closeness(value, original, oracle) == pytest.approx(expected)


def test_the_score_is_the_geometric_mean_of_the_parts_asked_for() -> None:
    parts = {"forget_rouge": 0.25, "world_rouge": 1.0, "fact_recall": 0.01}
    assert score(parts, ["forget_rouge", "world_rouge"]) == pytest.approx(0.5)
    assert score(parts, parts) == pytest.approx((0.25 * 0.01) ** (1 / 3))
    assert score_of_group(parts, parts, "forgotten") == pytest.approx(math.sqrt(0.25 * 0.01))
    assert score_of_group(parts, parts, "fluent") is None
    assert score(parts, ["attribution"]) is None and score(parts, []) is None


def test_the_oracle_scores_one_and_the_original_only_what_it_kept(make_run: Make) -> None:
    rows = make_run().rows
    oracle, original = closenesses(rows, "oracle"), closenesses(rows, "original")
    assert score(oracle, oracle) == pytest.approx(1)
    for part in PARTS:
        if part.key in original and part.group != "kept":
            assert original[part.key] == pytest.approx(0.01)


def test_what_a_run_lacks_is_no_part(make_run: Make) -> None:
    rows: Any = copy.deepcopy(make_run().rows)
    assert set(closenesses(rows)) == {part.key for part in PARTS} - {"attacks"}
    rows["unlearned"]["oracle_perplexity"] = rows["oracle_second"]["oracle_perplexity"] = None
    assert closenesses(rows)["oracle_perplexity"] == 0.01  # nothing was said that could have one: as far away as can be
    assert "oracle_perplexity" not in closenesses(rows, "oracle_second")
    rows["oracle"]["attribution"] = None
    assert "attribution" not in closenesses(rows)
    rows["oracle"] = None
    assert closenesses(rows) == {}


def test_attacks_are_one_part_however_many_there_are(make_run: Make) -> None:
    rows: Any = copy.deepcopy(make_run().rows)
    for model, relearn, sampled in (("original", 0.9, 0.8), ("oracle", 0.1, 0.0), ("unlearned", 0.3, 0.4)):
        rows[model]["attacks"] = {"relearn": {"figure": relearn}, "sampled": {"figure": sampled}, "broken": {"figure": None}}
    assert attacks(rows) == pytest.approx(math.sqrt((1 - 0.2 / 0.8) * (1 - 0.4 / 0.8)))
    assert closenesses(rows)["attacks"] == attacks(rows)
    del rows["oracle"]["attacks"]
    assert attacks(rows) is None


def test_collapse_is_utility_or_gibberish(make_run: Make) -> None:
    assert collapse(make_run().rows) == []
    utility = make_run().rows["oracle"]["model_utility"]  # type: ignore[index]
    assert "0.89 ×" in collapse(make_run(model_utility=0.89 * utility).rows)[0]
    assert collapse(make_run(model_utility=0.91 * utility).rows) == []
    worse = make_run(model_utility=0.85 * utility).rows
    original = {**worse["original"], "model_utility": 0.9 * utility}  # type: ignore[dict-item]
    assert collapse(worse) == ["utility 0.85 × the oracle's"]
    assert collapse({**worse, "original": original}) == []  # 0.94 of what was there before
    original["model_utility"] = 0.95 * utility
    assert collapse({**worse, "original": original}) == ["utility 0.895 × the original's"]
    few = {**worse["unlearned"], "intervals": {"model_utility": [0.1 * utility, 0.91 * utility]}}  # type: ignore[dict-item]
    assert collapse({**worse, "unlearned": few}) == []  # so few questions cannot tell
    few["intervals"] = {"model_utility": [0.8 * utility, 0.89 * utility]}
    assert collapse({**worse, "unlearned": few}) == ["utility 0.85 × the oracle's"]
    original["model_utility"] = 0.0
    assert collapse({**worse, "original": original}) == []  # there was nothing to lose
    assert "6%" in collapse(make_run(gibberish_rate=0.06).rows)[0]
    assert collapse(make_run(gibberish_rate=0.05).rows) == []
