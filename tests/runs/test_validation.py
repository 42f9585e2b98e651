"""Every problem at once, each with its path, what came, what was expected."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator, Field, field_validator, model_validator

from deattrib.errors import ConfigError
from deattrib.runs.validation import validate


class Strict(BaseModel, extra="forbid"):
    pass


class Part(Strict):
    scorer: str
    weight: float = 1.0


class Ppo(Strict):
    steps: int = Field(100, ge=1, description="PPO steps.")
    learning_rate: float = 1e-4
    advantages: Literal["gae", "paper"] = "gae"


class File(Strict):
    kind: Literal["file"] = "file"
    path: str


class Generated(Strict):
    kind: Literal["generated"] = "generated"
    owners: int = 20


class Run(Strict):
    name: str
    ppo: Ppo = Field(default_factory=lambda: Ppo.model_validate({}))
    anchored: Ppo | None = None
    reward: str | Part | list[Part] = "classifier"
    corpus: Annotated[File | Generated, Field(discriminator="kind")] = Generated()
    either: File | Generated | None = None
    extra_parts: dict[str, Part] = {}
    pair: tuple[int, float] = (1, 1.0)
    limit: int | float = 1
    short: str = Field("x", alias="s")

    @field_validator("limit")
    @classmethod
    def _not_seven(cls, value: float) -> float:
        if value == 7:
            raise ValueError("seven is kept for the oracle")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Run:
        if self.name == "contradiction":
            raise ValueError("name and reward contradict each other")
        return self


def problems(data: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate(Run, data, source="run.yaml")
    first, *lines = str(caught.value).split("\n  ")
    assert first.startswith("run.yaml: ")
    return lines


def test_valid_settings_come_back_as_the_class() -> None:
    run = validate(Run, {"name": "x", "reward": [{"scorer": "trak"}], "ppo": {"learning_rate": "1e-3"}}, source="s")
    assert run.reward == [Part(scorer="trak")]
    assert run.ppo.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"ppo": {"learing_rate": 1}}, "ppo.learing_rate: there is no such setting (given: 1). Did you mean 'learning_rate'?"),
        ({"anchored": {"step": 1}}, "anchored.step: there is no such setting (given: 1). Did you mean 'steps'?"),
        ({"ppo": {"steps": "many"}}, "ppo.steps: got 'many', expected a valid integer."),
        ({"ppo": {"steps": 0}}, "ppo.steps: got 0, expected a value greater than or equal to 1."),
        ({"ppo": {"advantages": "gea"}}, "ppo.advantages: got 'gea', expected 'gae' or 'paper'."),
        ({"ppo": 3}, "ppo: got 3, expected a section with settings of its own."),
        ({"anchored": 3}, "anchored: got 3, expected a section with settings of its own."),
        ({"s": 3}, "s: got 3, expected text (in quotes)."),
        (
            {"reward": {"scorer": "x", "weigth": 2}},
            "reward.weigth: there is no such setting (given: 2). Did you mean 'weight'?",
        ),
        ({"reward": [{"scorer": "x"}, {"scorer": "y", "weight": "z"}]}, "reward.1.weight: got 'z', expected a valid number."),
        ({"reward": {"weight": 2}}, "reward.scorer: missing; expected text."),
        ({"reward": 3}, "reward: got 3, expected text (in quotes) or a section with settings of its own or a valid list."),
        (
            {"corpus": {"kind": "generated", "ownres": 3}},
            "corpus.ownres: there is no such setting (given: 3). Did you mean 'owners'?",
        ),
        ({"corpus": {"kind": "flie"}}, "corpus: got {'kind': 'flie'}, expected 'kind' to be one of 'file', 'generated'."),
        ({"corpus": {"owners": 3}}, "corpus: got {'owners': 3}, expected 'kind' to say which kind it is."),
        ({"either": {"ownres": 3}}, "either.ownres: there is no such setting (given: 3). Did you mean 'owners'?"),
        ({"extra_parts": {"a": {"scorer": 1}}}, "extra_parts.a.scorer: got 1, expected text (in quotes)."),
        ({"pair": [1, "x"]}, "pair.1: got 'x', expected a valid number."),
        ({"limit": "x"}, "limit: got 'x', expected a valid integer or a valid number."),
        ({"limit": 7}, "limit: got 7, but seven is kept for the oracle."),
        ({"learning_rate": 1}, "learning_rate: there is no such setting (given: 1). It belongs in 'ppo.learning_rate' or "),
        ({"zzz": 1}, "zzz: there is no such setting (given: 1). Known: anchored, corpus, either, "),
    ],
)
def test_each_kind_of_problem(data: dict[str, object], line: str) -> None:
    found = problems({"name": "x", **data})
    assert len(found) == 1
    assert found[0].startswith(line)


def parse_short(value: Any) -> Any:
    return {"scorer": value} if value == "short" else value


Checked = Annotated[Part, BeforeValidator(parse_short)]


class Loose(Strict):
    any: str | dict[str, Any] | list[str | dict[str, Any]] = "x"
    checked: Checked | list[Checked] = []
    nested: Annotated[File | Generated, Field(discriminator="kind")] | bool | None = None
    by_name: dict[str, Part | int] = {}
    many: list[Ppo] | None = None
    fixed: tuple[Part, ...] = ()


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"any": 3}, "any: got 3, expected text (in quotes) or a section with settings of its own or a valid list."),
        ({"any": ["x", 3]}, "any.1: got 3, expected text (in quotes) or a section with settings of its own."),
        (
            {"checked": {"scorer": "x", "wieght": 1}},
            "checked.wieght: there is no such setting (given: 1). Did you mean 'weight'",
        ),
        ({"checked": [{"scorer": "x", "weight": "y"}]}, "checked.0.weight: got 'y', expected a valid number."),
        (
            {"nested": {"kind": "file", "pth": 1, "path": "x"}},
            "nested.pth: there is no such setting (given: 1). Did you mean 'path'",
        ),
        ({"by_name": {"int": "x"}}, "by_name.int: got 'x', expected a section with settings of its own or a valid integer."),
        ({"by_name": {"Part": {"scorer": 1}}}, "by_name.Part.scorer: got 1, expected text"),
        ({"many": [{}, {"step": 1}]}, "many.1.step: there is no such setting (given: 1). Did you mean 'steps'?"),
        ({"fixed": [{"scorer": "a"}, {}]}, "fixed.1.scorer: missing; expected text."),
    ],
)
def test_unions_in_unions_and_checks_around_them(data: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Loose, data, source="s")
    _, *lines = str(caught.value).split("\n  ")
    assert len(lines) == 1
    assert lines[0].startswith(line)


def test_missing_says_what_is_wanted() -> None:
    class Wanting(Strict):
        steps: int = Field(description="How many steps.")

    with pytest.raises(ConfigError, match=r"steps: missing; expected a whole number \(How many steps\)\."):
        validate(Wanting, {}, source="s")


def test_a_check_of_the_whole_keeps_its_words() -> None:
    assert "name and reward contradict each other" in problems({"name": "contradiction"})[0]


def test_all_problems_together() -> None:
    found = problems({"ppo": {"steps": "a", "learning_rate": "b", "x": 1}, "reward": 3, "limit": 7})
    assert [line.split(":")[0] for line in found] == ["name", "ppo.steps", "ppo.learning_rate", "ppo.x", "reward", "limit"]


def test_true_is_no_number() -> None:
    found = problems({"name": "x", "ppo": {"steps": True, "learning_rate": False, "x": 1}})
    assert found[:2] == ["ppo.steps: got True, expected a number.", "ppo.learning_rate: got False, expected a number."]
    assert found[2].startswith("ppo.x: there is no such setting") and len(found) == 3
    assert problems({"name": "x", "limit": True}) == ["limit: got True, expected a number."]


def test_long_values_are_cut() -> None:
    assert len(problems({"name": "x", "ppo": "y" * 10_000})[0]) < 200


def test_settings_that_are_no_dict() -> None:
    assert problems(5) == ["(the settings as a whole): got 5, expected a section with settings of its own."]


names = st.sampled_from(
    [
        "name",
        "ppo",
        "anchored",
        "reward",
        "corpus",
        "either",
        "extra_parts",
        "pair",
        "limit",
        "s",
        "short",
        "steps",
        "weight",
        "scorer",
        "kind",
        "file",
        "str",
        "Part",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["file", "generated"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(names | st.text(max_size=3), values, max_size=6))
def test_any_settings_are_accepted_or_a_config_error(data: dict[str, object]) -> None:
    try:
        validate(Run, data, source="s")
    except ConfigError as error:
        assert "\n  " in str(error)
