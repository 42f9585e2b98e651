"""Two processes, started as a user would start them, give the numbers of one, and go on with what one has begun.

They differ by the order in which the same numbers are added: 1e-6 in a step, and a little more after three.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ppo.several import CASES, LOOPS, QUICK, build, go
from tests.torchrun import torchrun

ROOT = Path(__file__).parents[2]
CLOSE = {"rel": 1e-3, "abs": 2e-5}


def compared(folder: Path, cases: Sequence[str]) -> Path:
    """Every case: `.one.pt` of this process, `.two.pt` of two others that were given this one's states."""
    for case in cases:
        unlearner = build(case)
        history = go(unlearner, 1)
        halfway = unlearner.state_dict()
        history += go(unlearner)
        asked = [row.prompt for row in unlearner.corpus.forget[:4]]
        answers = unlearner.policy.language_model().generate(asked, max_new_tokens=8)
        result = {"history": history, "halfway": halfway, "final": unlearner.state_dict(), "answers": answers}
        torch.save(result, folder / f"{case}.one.pt")
    done = torchrun("tests.ppo.several", str(folder), *cases, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compared(tmp_path_factory.mktemp("quick"), QUICK)


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compared(tmp_path_factory.mktemp("more"), OTHERS)


def load(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / f"{name}.pt", weights_only=True)
    return found


def apart(one: list[dict[str, float]], two: list[dict[str, float]]) -> list[str]:
    """Where two histories are more than rounding apart; [] where they are the same."""
    if [sorted(figures) for figures in one] != [sorted(figures) for figures in two]:
        return [f"{len(one)} and {len(two)} steps of other figures"]
    return [
        f"step {step}, {name}: {value} and {second[name]}"
        for step, (first, second) in enumerate(zip(one, two, strict=True))
        for name, value in first.items()
        if second[name] != pytest.approx(value, **CLOSE)
    ]


def same_place(one: dict[str, Any], two: dict[str, Any]) -> None:
    """What is drawn next is the same, and weights and moments nearly are."""
    for key in ("step", "calm", "stopped", "rng", "cycles"):
        assert one[key] == two[key], key
    assert torch.equal(one["generator"], two["generator"])
    assert one["policy"].keys() == two["policy"].keys()
    for name, value in one["policy"].items():
        assert two["policy"][name].shape == value.shape
        # Adam divides by the root of a mean square: where a gradient is nothing but rounding, so is its step.
        assert (two["policy"][name] - value).abs().mean() < 2e-4, name
    for index, entry in one["optimiser"]["state"].items():
        for name, value in entry.items():
            assert torch.allclose(two["optimiser"]["state"][index][name], value, rtol=1e-2, atol=1e-4), (index, name)


OTHERS = [case for case in CASES if case not in QUICK]
EVERY = [(case, "folder") for case in QUICK] + [pytest.param(case, "more", marks=pytest.mark.slow) for case in OTHERS]


@pytest.mark.parametrize(("case", "made"), EVERY)
def test_two_processes_give_the_numbers_of_one(case: str, made: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(made)
    one, two = load(folder, f"{case}.one"), load(folder, f"{case}.two")
    assert apart(one["history"], two["history"]) == []
    same_place(one["final"], two["final"])
    assert two["answers"] == one["answers"]
    assert two["spread"] == (LOOPS.get(case, ({}, {}))[0].get("sharding") == "fsdp")


@pytest.mark.parametrize(("case", "made"), EVERY)
def test_either_goes_on_with_what_the_other_has_begun(case: str, made: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(made)
    expected = load(folder, f"{case}.one")["history"][1:]
    assert expected, "nothing was left to go on with"
    assert apart(expected, load(folder, f"{case}.two")["later"]) == []
    assert load(folder, f"{case}.two")["same"]
    unlearner = build(case)
    unlearner.load_state_dict(load(folder, f"{case}.two")["halfway"])
    assert apart(expected, go(unlearner)) == []


def test_histories_that_differ_are_told() -> None:
    one = [{"loss": 1.0, "kl": 0.5}]
    assert apart(one, [{"loss": 1.0 + 1e-5, "kl": 0.5}]) == []
    assert apart(one, [{"loss": 1.1, "kl": 0.5}]) == ["step 0, loss: 1.0 and 1.1"]
    assert apart(one, []) and apart(one, [{"loss": 1.0}])


def test_an_error_in_one_process_is_an_error_in_all(folder: Path) -> None:
    leader, other = load(folder, "refusals.0"), load(folder, "refusals.1")
    assert other["said"][0] == "ValueError: no attribution today"
    assert leader["said"][0] == "RunError: Process 1 of 2 failed: ValueError: no attribution today"
    assert leader["said"][1].startswith("ZeroDivisionError") and "Process 0 of 2 failed: ZeroDivision" in other["said"][1]
    assert leader["said"][2].startswith("ZeroDivisionError") and "Process 0 of 2 failed: ZeroDivision" in other["said"][2]
    assert (leader["step"], leader["whole"]) == (other["step"], other["whole"]) == (0, True)  # may be saved as it is


def test_processes_that_drift_apart_are_told(folder: Path) -> None:
    for rank in (0, 1):
        assert "Processes 0 and 1 no longer hold the same weights" in load(folder, f"refusals.{rank}")["said"][3]
