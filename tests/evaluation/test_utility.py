"""Model utility and ToW: by hand, as published, and within their bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deattrib.evaluation.utility import model_utility, tow

SHARE = st.floats(0.0, 1.0)


def test_utility_is_the_harmonic_mean_of_what_there_is() -> None:
    value, used = model_utility({"retain_rouge": 0.5, "world_rouge": 1.0, "real_authors_rouge": None, "world_x": float("nan")})
    assert value == pytest.approx(2 / (1 / 0.5 + 1 / 1.0))
    assert used == ["retain_rouge", "world_rouge"]


def test_one_part_at_zero_ruins_the_utility_and_no_part_gives_none() -> None:
    assert model_utility({"a": 0.0, "b": 1.0})[0] == 0
    assert model_utility({"a": None}) == (None, [])


def test_tow_of_the_published_original_model() -> None:
    # Table of the paper (TOFU, Llama-2-7B): Original .908/.901/.812 against Retrain .381/.917/.818 has ToW .455.
    original = {"forget": 0.908, "retain": 0.901, "world": 0.812}
    retrain = {"forget": 0.381, "retain": 0.917, "world": 0.818}
    # Factors .473, .984, .994; the paper averages ToW over seeds, hence the tolerance.
    assert tow(original, retrain) == pytest.approx(0.455, abs=0.01)
    assert tow(original, retrain) == pytest.approx(0.473 * 0.984 * 0.994)
    assert tow(retrain, retrain) == 1


def test_tow_leaves_out_what_the_corpus_lacks() -> None:
    assert tow({"forget": 0.5, "world": None}, {"forget": 0.25, "world": None}) == pytest.approx(0.75)
    assert tow({"forget": None}, {"forget": 0.5}) is None


@given(st.dictionaries(st.sampled_from("abcdef"), SHARE, min_size=1))
def test_utility_lies_between_its_least_part_and_their_mean(parts: dict[str, float]) -> None:
    value, used = model_utility(parts)
    assert value is not None
    assert min(parts.values()) - 1e-9 <= value <= sum(parts.values()) / len(parts) + 1e-9
    assert set(used) == set(parts)
    assert model_utility(dict(reversed(parts.items())))[0] == pytest.approx(value)


@given(SHARE, SHARE, SHARE, SHARE)
def test_tow_is_symmetric_and_in_bounds(a: float, b: float, c: float, d: float) -> None:
    value = tow({"forget": a, "retain": b}, {"forget": c, "retain": d})
    assert value is not None
    assert 0 <= value <= 1
    assert value == pytest.approx(tow({"forget": c, "retain": d}, {"forget": a, "retain": b}))
