"""Scorers from files and modules, and which classes are accepted as scorers at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.attribution.sources import Simple, plugin_with, scorer_source

from deattrib import PluginError, PluginRegistry, Scorer

Install = Callable[..., None]


# -- files and modules -------------------------------------------------------------------------------------------------
def test_a_scorer_from_a_file_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(scorer_source("mine"))
    monkeypatch.chdir(tmp_path)
    registry = PluginRegistry(entry_points=False)
    cls = registry.scorer("mine.py:Words")
    assert cls.name == "mine"
    assert registry.scorer("./mine.py:Words") is cls
    assert PluginRegistry(entry_points=False).scorer(str(tmp_path / "mine.py") + ":Words") is cls
    assert registry.origin(cls).distribution == str(tmp_path / "mine.py")
    before = registry.origin(cls).version
    (tmp_path / "mine.py").write_text(scorer_source("mine") + "\n# edited\n")
    again = registry.scorer("mine.py:Words")
    assert again is not cls and registry.origin(again).version != before


@pytest.mark.parametrize(
    ("source", "reference", "parts"),
    [
        (None, "gone.py:Words", ["gone.py does not exist", "Did you mean 'gone_too.py'"]),
        ("x = 1\n\nraise ValueError('bad')\n", "mine.py:Words", ["mine.py", "ValueError: bad", ":3)"]),
        ("def f(:\n", "mine.py:Words", ["SyntaxError", "mine.py:1"]),
        (scorer_source("mine"), "mine.py:Word", ["has no 'Word'", "Did you mean 'Words'"]),
        ("x = 1\n", "mine.py:Words", ["has no 'Words'", "no class derived from deattrib.Scorer"]),
        ("class Words: name = 'w'\n", "mine.py:Words", ["not derived from deattrib.Scorer"]),
        (scorer_source("mine"), "mine.py", ["mine.py:ClassName"]),
    ],
)
def test_what_is_wrong_with_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, reference: str, parts: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone_too.py").write_text("")
    if source is not None:
        (tmp_path / "mine.py").write_text(source)
    for _ in range(2):  # a failed import must not leave half a module behind for the second try
        with pytest.raises(PluginError) as caught:
            PluginRegistry(entry_points=False).scorer(reference)
        for part in parts:
            assert part in str(caught.value)


@pytest.mark.parametrize("place", ["~nosuchuser/x.py", "a\0b.py", "x" * 300 + ".py"], ids=["user", "nul", "long"])
def test_what_is_no_path_is_named(place: str) -> None:
    with pytest.raises(PluginError, match=r"Scorer file .* is no path: .*FILE\.py:Class"):
        PluginRegistry(entry_points=False).scorer(f"{place}:S")


def test_a_scorer_from_a_module(install: Install) -> None:
    install("words-dist", {"words_i": scorer_source("words")}, version="4.5", entry_points={})
    registry = PluginRegistry()
    cls = registry.scorer("words_i:Words")
    assert cls.name == "words" and cls.__module__ == "words_i"
    with pytest.raises(PluginError, match=r"has no 'Wrds'\. Did you mean 'Words'"):
        registry.scorer("words_i:Wrds")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("absent_module:Words", "no module 'absent_module'"),
        ("absent.module:Words", "no module 'absent.module'"),
        ("raising_module:Words", r"ZeroDivisionError.*raising_module\.py:1"),
        (":Words", "cannot be found"),
    ],
)
def test_what_is_wrong_with_a_module(install: Install, reference: str, expected: str) -> None:
    install("raising-dist", {"raising_module": "1 / 0\n"}, entry_points={})
    with pytest.raises(PluginError, match=expected):
        PluginRegistry().scorer(reference)


# -- classes -----------------------------------------------------------------------------------------------------------
class Unnamed(Scorer):
    def score(self, rows: Any) -> Any:
        return []


class Scoreless(Scorer):
    name = "scoreless"


class OwnParams(Simple):
    name = "own-params"
    Params = type("Params", (), {})  # type: ignore[assignment]


class NameParam(Simple):
    name = "name-param"

    class Params(Scorer.Params):
        name: str = "x"


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (Unnamed, "name = None"),
        (type("Spaced", (Simple,), {"name": "My Scorer"}), "name = 'My Scorer'"),
        (type("Dashed", (Simple,), {"name": "-x"}), "name = '-x'"),
        (Scoreless, r"does not define score\(rows\)"),
        (type("Vague", (Simple,), {"fidelity": "proxi"}), "fidelity = 'proxi'. Did you mean 'proxy'"),
        (type("Old", (Simple,), {"api_version": 0}), "api_version = 0"),
        (type("Texted", (Simple,), {"api_version": "1"}), "api_version = '1'"),
        (OwnParams, r"class Params\(Scorer.Params\)"),
        (NameParam, "setting called 'name'"),
        (Simple(), "an instance of Simple"),
    ],
)
def test_classes_that_cannot_be_scorers_are_refused(cls: Any, expected: str) -> None:
    registry = PluginRegistry(entry_points=False)
    with pytest.raises(PluginError, match=expected):
        registry.register(plugin_with(cls), name="test-plugin")
    assert registry.listing() == []


def test_a_plugin_may_not_bring_one_name_twice() -> None:
    with pytest.raises(PluginError, match="scorer name 'simple' twice"):
        PluginRegistry(entry_points=False).register(plugin_with(Simple, type("Again", (Simple,), {})), name="test-plugin")
