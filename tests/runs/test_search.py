"""Search spaces, and the settings that are tried."""

from __future__ import annotations

from typing import Any

import pytest
from tests.runs.tiny import TINY

from deattrib import Choice, Method, Span
from deattrib.attribution.plugins import PluginRegistry
from deattrib.errors import ConfigError
from deattrib.methods.builtin import METHODS
from deattrib.runs.config import build_config
from deattrib.runs.search import space_of, trials, with_settings


@pytest.mark.parametrize(
    ("span", "share", "own", "expected"),
    [
        (Span(0.01, 1.0), 0.5, None, 0.1),  # the middle of a log scale is the geometric mean
        (Span(0.0, 10.0, scale="linear"), 0.25, None, 2.5),
        (Span(0.5, 4.0, whole=True, relative=True), 1.0, 45.0, 180),
        (Span(0.1, 0.5, whole=True, relative=True), 0.0, 3.0, 1),  # never 0 steps
        (Choice(("a", "b", "c")), 0.99, None, "c"),
        (Choice(("a", "b", "c")), 1.0, None, "c"),
        (Choice(("a", "b", "c")), 0.34, None, "b"),
    ],
)
def test_a_share_of_a_range_is_a_value(span: Span | Choice, share: float, own: float | None, expected: Any) -> None:
    assert span.at(share, own) == pytest.approx(expected) if isinstance(expected, float) else span.at(share, own) == expected


def test_impossible_ranges_are_refused() -> None:
    for arguments in ((1.0, 1.0), (0.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ConfigError):
            Span(*arguments)
    with pytest.raises(ConfigError, match="relative"):
        Span(0.1, 1.0, relative=True).at(0.5)


def test_settings_go_to_the_run_or_to_the_method() -> None:
    data = {"method": "npo", "ppo": {"data_epochs": 1}}
    found = with_settings(data, {"beta": 0.5, "ppo.steps": 3, "ppo.retain.weight": 2.0})
    assert found == {
        "method": {"name": "npo", "beta": 0.5},
        "ppo": {"data_epochs": None, "steps": 3, "retain": {"weight": 2.0}},
    }
    assert data == {"method": "npo", "ppo": {"data_epochs": 1}}
    with pytest.raises(ConfigError, match="has no settings of its own"):
        with_settings({"ppo": {"retain": 3}}, {"ppo.retain.weight": 1.0})


@pytest.mark.parametrize("method", [cls.name for cls in METHODS])
def test_every_method_can_be_tuned(method: str) -> None:
    """All that its search space may give is accepted by its settings."""
    data = {**TINY, "method": method}
    space = space_of(build_config(data=data), PluginRegistry())
    assert {"ppo.learning_rate", "ppo.steps"} <= set(space)
    for settings in trials(data, space, 5):
        config = build_config(data=with_settings(data, settings))
        given = config.method if isinstance(config.method, dict) else {"name": config.method}
        cls = next(cls for cls in METHODS if cls.name == method)
        cls.Params(**{key: value for key, value in given.items() if key != "name"})


def test_the_first_trial_is_the_config_and_a_larger_budget_goes_on_where_a_smaller_ended() -> None:
    data = {**TINY, "method": "npo"}
    space = space_of(build_config(data=data), PluginRegistry())
    many = trials(data, space, 9)
    assert many[0] == {} and trials(data, space, 4) == many[:4] and trials(data, space, 1) == [{}]
    rates = [one["ppo.learning_rate"] for one in many[1:]]
    own = build_config(data=data).ppo.learning_rate
    assert all(0.03 * own <= rate <= 3.5 * own for rate in rates) and len(set(rates)) == len(rates)
    assert trials(data, space, 4, seed=1) != many[:4]


def test_what_the_method_itself_says_is_not_searched() -> None:
    spec = {"name": "npo", "beta": 0.5, "learning_rate": 1e-4}
    space = space_of(build_config(data={**TINY, "method": spec}), PluginRegistry())
    assert set(space) == {"ppo.steps", "dropped_words", "retain_weight"}  # the method's own rate would go over the loop's
    assert all(set(one) == set(space) for one in trials({**TINY, "method": spec}, space, 3)[1:])
    said = {"name": "retain-ft", "steps": 5, "learning_rate": 1e-4, "dropped_words": 0.0}
    assert trials(TINY, space_of(build_config(data={**TINY, "method": said}), PluginRegistry()), 8) == [{}]


def test_every_method_may_make_as_many_updates_as_dareu() -> None:
    """A step of dareu is `ppo.epochs` updates, one of a baseline a single one."""
    config = build_config(data=TINY)
    spaces = {
        name: space_of(config.model_copy(update={"method": name}), PluginRegistry()) for name in ("dareu", "npo", "anchored")
    }
    most = {name: space["ppo.steps"].at(1.0, 45.0) for name, space in spaces.items()}
    assert most["npo"] == most["dareu"] * 3 == most["anchored"] * 3 and build_config(data={}).ppo.epochs == 3
    assert set(spaces["dareu"]) - set(spaces["anchored"]) == {"ppo.policy_weight"}  # they differ by what PPO adds


def test_steps_are_relative_to_what_data_epochs_come_to() -> None:
    data = {**TINY, "method": "ga", "ppo": {**TINY["ppo"], "data_epochs": 2, "batch_size": 4, "minibatch_size": 4}}
    space = {"ppo.steps": Span(1.0, 1.0001, relative=True, whole=True)}
    assert trials(data, space, 2, rows=10)[1] == {"ppo.steps": 5}  # 2 passes over 10 rows, 4 at a time


def test_a_space_of_something_else_is_refused_by_name() -> None:
    class Half(Method):
        name = "half"
        search = {"beta": (0.1, 1.0)}  # type: ignore[dict-item]

    class Registry(PluginRegistry):
        def method(self, reference: str) -> type[Any]:
            return Half

    with pytest.raises(ConfigError, match=r"'half': search\['beta'\]"):
        space_of(build_config(data={**TINY, "method": "npo"}), Registry())
