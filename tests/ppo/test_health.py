"""Signs of a training that goes wrong: each by hand, told once, and the same after a resume; updates that are no numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.ppo.toy import Fixed, small

from deattrib.ppo.health import Fault, Health, repetition
from deattrib.ppo.settings import HealthSettings
from deattrib.ppo.update import accumulate, clip, gradient, means

Make = Any  # the fixture of conftest.py
SOUND = {
    "reward": -0.5, "kl": 0.7, "entropy": 1.0, "empty": 0.0, "length": 20.0, "distinct": 1.0, "loss": 1.0, "grad_norm": 2.0,
}  # fmt: skip
ANSWERS = [[1, 2, 3, 4], [5, 6, 7, 8]]


def told(history: list[dict[str, float]], **settings: Any) -> list[tuple[int, str]]:
    health = Health(HealthSettings(**settings))
    faults = [fault for step, figures in enumerate(history, 1) for fault in health.look(step, SOUND | figures, ANSWERS)]
    return [(fault.step, fault.name) for fault in faults]


@pytest.mark.parametrize(
    ("figures", "name"),
    [
        ({"kl": 10.1}, "kl"),
        ({"entropy": 0.009}, "entropy"),
        ({"empty": 1.0}, "empty"),
        ({"loss": math.nan}, "nonfinite"),
        ({"kl": math.inf}, "nonfinite"),
        ({"skipped_updates": 2.0}, "nonfinite"),
    ],
)
def test_a_sign_that_lasts_is_told_once(figures: dict[str, float], name: str) -> None:
    assert (3, name) in told([figures] * 9)
    assert [step for step, found in told([figures] * 9) if found == name] == [3]
    assert told([figures, figures, {}] * 5) == []  # never three in a row
    assert told([figures], patience=1)[0] == (1, name)


def test_nothing_is_told_of_a_sound_training() -> None:
    assert told([{"reward": -0.8 + 0.02 * step, "length": 20 + step % 7} for step in range(40)]) == []


@pytest.mark.parametrize(
    ("drift", "name"),
    [({"length": 7.0}, "length"), ({"length": 51.0}, "length"), ({"distinct": 0.3}, "distinct")],
)
def test_a_reward_that_rises_while_answers_change_is_a_sign(drift: dict[str, float], name: str) -> None:
    sound, hacked = [{"reward": -0.8}] * 5, [{"reward": -0.1} | drift] * 9
    assert told(sound + hacked) == [(12, name)]  # the fifth step is the first whose five steps before are all hacked, or nearly
    assert told(sound + [{"reward": -0.8} | drift] * 9) == []  # without gain no hacking
    assert told(sound + hacked, gain=None) == []


def test_answers_that_repeat_themselves_are_a_sign() -> None:
    health = Health(HealthSettings())
    faults: list[Fault] = []
    for step in range(1, 16):
        answers = ANSWERS if step <= 5 else [[1, 2, 1, 2, 1, 2, 1]]
        faults += health.look(step, SOUND | {"reward": -0.8 if step <= 5 else 0.0}, answers)
    assert [fault.name for fault in faults] == ["repetition"]
    assert "repetition went from 0.00 to 0." in faults[0].message and "the scorer is gamed" in faults[0].message


def test_repetition_by_hand() -> None:
    assert repetition([[1, 2, 3]]) == 0.0
    assert repetition([[1, 1, 1, 1]]) == pytest.approx(2 / 3)  # three pairs, one of them new
    assert repetition([[1, 2, 1, 2], [7], []]) == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert repetition([]) == 0.0


@given(st.lists(st.lists(st.integers(0, 5), max_size=12), max_size=6))
def test_repetition_is_a_share_and_blind_to_order(responses: list[list[int]]) -> None:
    assert 0 <= repetition(responses) < 1
    assert repetition(responses) == pytest.approx(repetition(responses[::-1]))


FIGURES = st.fixed_dictionaries(
    {name: st.floats(allow_nan=True, allow_infinity=True, width=32) for name in ("kl", "entropy", "length", "reward", "loss")}
    | {"empty": st.floats(0, 1), "distinct": st.floats(0, 1)}
)


@given(st.lists(FIGURES, max_size=14), st.integers(0, 14))
def test_any_figures_are_taken_and_a_saved_state_goes_on_alike(history: list[dict[str, float]], cut: int) -> None:
    settings = HealthSettings(patience=2, window=2)
    whole, first, second = Health(settings), Health(settings), Health(settings)
    expected = [fault for step, figures in enumerate(history) for fault in whole.look(step, figures, [])]
    found = [fault for step, figures in enumerate(history[:cut]) for fault in first.look(step, figures, [])]
    second.load_state_dict(first.state_dict())
    found += [fault for step, figures in enumerate(history[cut:], cut) for fault in second.look(step, figures, [])]
    assert [(fault.name, fault.step, fault.message) for fault in found] == [
        (fault.name, fault.step, fault.message) for fault in expected
    ]
    assert len({fault.name for fault in expected}) == len(expected)


# -- updates -----------------------------------------------------------------------------------------------------------
def test_terms_add_up_like_one_backward_pass() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 3))
    unused = torch.nn.Parameter(torch.randn(2))
    inputs = torch.randn(3, 5, 4)
    terms = [lambda x=x: (((x @ weight) ** 2).mean(), {"a": float(x.sum())}) for x in inputs]
    device = torch.device("cpu")
    made = [gradient(term, [weight, unused], device=device, bf16=False) for term in reversed(terms)]
    figures = accumulate(made, [weight, unused], device=device)
    summed = weight.grad
    weight.grad = None
    total = sum(term()[0] for term in terms)
    assert isinstance(total, torch.Tensor)
    total.backward()  # type: ignore[no-untyped-call]
    assert summed is not None and weight.grad is not None
    assert torch.allclose(summed, weight.grad, rtol=1e-6) and unused.grad is None
    assert figures["loss"] == pytest.approx(float(total.detach()))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_no_number_is_dropped(bad: float) -> None:
    parameters = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert clip(parameters, 1.0) == ({"grad_norm": 5.0}, True)
    assert parameters[0].grad.tolist() == pytest.approx([0.6, 0.0])
    parameters[1].grad[0] = bad
    assert clip(parameters, 1.0) == ({}, False)
    assert parameters[0].grad is None and parameters[1].grad is None


def test_figures_are_means_over_the_updates_that_have_them() -> None:
    assert means([{"a": 1.0, "b": 4.0}, {"a": 3.0}]) == {"a": 2.0, "b": 4.0}
    assert means([]) == {}


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_the_weights_survive_a_loss_or_gradient_that_is_not_finite(make: Make, what: str) -> None:
    """Two updates a step; the second of step 2 is broken. Adam's moments must not see it either."""
    unlearner = make(small(steps=3, epochs=2, anchor={"hinge": 0.0, "kl": 0.0}))
    terms, calls = unlearner._terms, 0

    def broken(part: Any, lesson: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != 4:
            return terms(part, lesson)
        weight = next(iter(unlearner.parameters.values()))
        if what == "loss":
            return [*terms(part, lesson), lambda: (weight.sum() * math.nan, {"broken": math.nan})]
        return [*terms(part, lesson), lambda: ((weight * 0).sqrt().sum() * 0, {})]  # the value is 0, its gradient inf * 0

    unlearner._terms = broken
    first, second, third = list(unlearner)
    assert "skipped_updates" not in first.figures and "skipped_updates" not in third.figures
    assert second.figures["skipped_updates"] == 1.0 and math.isfinite(second.figures["grad_norm"])
    assert all(torch.isfinite(value).all() for value in unlearner.policy.state().values())
    states = unlearner.optimiser.state.values()
    assert {int(state["step"]) for state in states} == {5}
    assert all(torch.isfinite(state["exp_avg"]).all() and torch.isfinite(state["exp_avg_sq"]).all() for state in states)


@pytest.mark.parametrize(("on_fault", "steps"), [("note", 4), ("stop", 2)])
def test_a_fault_stops_the_loop_where_asked(make: Make, on_fault: str, steps: int) -> None:
    health = {"on_fault": on_fault, "patience": 2, "entropy": 100.0}
    unlearner = make(small(steps=4, epochs=1, health=health), Fixed(0.5))
    history = list(unlearner)
    assert len(history) == steps
    assert [fault.name for step in history for fault in step.faults] == ["entropy"]
    assert history[1].faults[0].step == 2
    assert (unlearner.stopped is None) == (on_fault == "note")
    if unlearner.stopped:
        assert "entropy is" in unlearner.stopped and not unlearner.rollback


def test_a_step_that_fails_before_any_update_never_happened(make: Make) -> None:
    """The state is that of the step before; going on gives the numbers of a loop that was never disturbed."""
    undisturbed = [dict(step.figures) for step in make(small(steps=3))]
    unlearner = make(small(steps=3))
    first = dict(next(unlearner).figures)
    attribution = unlearner.source.attribution
    unlearner.source.attribution = lambda rows, ends=None: 1 / 0
    with pytest.raises(ZeroDivisionError):
        next(unlearner)
    assert unlearner.whole and unlearner.step == 1
    unlearner.source.attribution = attribution
    fresh = make(small(steps=3))
    fresh.load_state_dict(unlearner.state_dict())
    assert [first, *(dict(step.figures) for step in fresh)] == undisturbed
