"""`--set`: what it sets, and what it refuses."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deattrib.errors import ConfigError
from deattrib.runs.overrides import apply_overrides, parse_override


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("a.b=3", 3),
        ("a.b=1e-4", 1e-4),
        ("a.b=true", True),
        ("a.b=null", None),
        ("a.b=", None),
        ("a.b=''", ""),
        ("a.b='3'", "3"),
        ("a.b=[1, two, 3.5]", [1, "two", 3.5]),
        ("a.b={c: 1, d: [x]}", {"c": 1, "d": ["x"]}),
        ("a.b=Question: why? #1", "Question: why? #1"),
        ("a.b=x=y", "x=y"),
        ("a.b=./my_scorer.py:MyScorer", "./my_scorer.py:MyScorer"),
        ("a.b=C:\\data", "C:\\data"),
        ("a.b=*x", "*x"),
        ("a.b=- x", "- x"),
        (" a . b = 3 ", 3),
    ],
)
def test_values(item: str, value: object) -> None:
    keys, parsed = parse_override(item)
    assert keys == ("a", "b")
    assert parsed == value
    assert type(parsed) is type(value)


def test_later_wins_and_the_input_stays() -> None:
    settings = {"ppo": {"steps": 1, "lr": 0.1}, "names": ["a", {"w": 1}], "off": None}
    result = apply_overrides(
        settings, ["ppo.steps=2", "ppo.steps=3", "new.deep.key=x", "names.1.w=5", "names.0=b", "off.on=1", "ppo.lr=null"]
    )
    assert result == {
        "ppo": {"steps": 3, "lr": None},
        "names": ["b", {"w": 5}],
        "off": {"on": 1},
        "new": {"deep": {"key": "x"}},
    }
    assert settings == {"ppo": {"steps": 1, "lr": 0.1}, "names": ["a", {"w": 1}], "off": None}


def test_a_section_is_replaced_as_a_whole() -> None:
    assert apply_overrides({"a": {"b": 1, "c": 2}}, ["a={b: 3}"]) == {"a": {"b": 3}}


@pytest.mark.parametrize(
    ("item", "word"),
    [
        ("a.b", "no '='"),
        ("=3", "dotted name"),
        ("a..b=3", "dotted name"),
        (".=3", "dotted name"),
        ("." * 200 + "=3", "dotted name"),
        ("a=[1,", "flow"),
        ("a={b: 1, b: 2}", "twice"),
        ("a=!!python/none", None),
        ("a=[!!python/none x]", "not allowed"),
        ("a=" + "9" * 5000, "digits"),
        ("scalar.b=3", "'scalar' is 7"),
        ("list.x=3", "list of 2"),
        ("list.2=3", "list of 2"),
        ("list.-1=3", "list of 2"),
        ("list.0.x=3", "'list.0' is 1"),
    ],
)
def test_errors_name_the_item(item: str, word: str | None) -> None:
    settings = {"scalar": 7, "list": [1, 2]}
    if word is None:  # not YAML: plain text as it stands
        assert apply_overrides(settings, [item])["a"] == item.partition("=")[2]
        return
    with pytest.raises(ConfigError) as caught:
        apply_overrides(settings, ["fine=1", item])
    assert item[:20] in str(caught.value)
    assert word in str(caught.value)


@given(st.lists(st.text("ab.=[]{}'\"1: ,", max_size=12), max_size=4))
def test_any_item_sets_something_or_is_a_config_error(items: list[str]) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(apply_overrides({"a": {"b": [1]}}, items), dict)
