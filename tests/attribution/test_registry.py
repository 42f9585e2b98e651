"""The registry: what settings let in, how scorers are made, and what observers are told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.attribution.sources import EXTRAS, Simple, by_name, plugin_with, registry_with, scorer_source

from deattrib import ConfigError, PluginError, PluginRegistry, hookimpl, make_scorer

Install = Callable[..., None]


# -- settings ----------------------------------------------------------------------------------------------------------
def test_disabled_entry_points_are_not_imported(install: Install) -> None:
    install("bad-dist", {"bad_b": "raise RuntimeError('imported')\n"})
    registry = PluginRegistry(disable=["bad_b"])
    assert "bad_b" not in sys.modules
    assert by_name(registry)["bad_b"]["state"] == "disabled"
    with pytest.raises(PluginError, match="is disabled: disabled by the settings"):
        registry.scorer("bad_b")


def test_a_scorer_is_disabled_by_its_name(install: Install) -> None:
    install("words-dist", {"words_e": scorer_source("words")})
    with pytest.raises(PluginError, match=r"'words' \(words-dist 1.0, entry point 'words_e'\) is disabled"):
        PluginRegistry(disable=["words"]).scorer("words")


def test_only_what_is_allowed_is_imported(install: Install) -> None:
    install("good-dist", {"good_b": scorer_source("good")})
    install("bad-dist", {"bad_c": "raise RuntimeError('imported')\n"})
    registry = PluginRegistry(allow=["good-dist"])
    assert "bad_c" not in sys.modules and registry.names() == ["good"]
    assert by_name(registry)["bad_c"]["reason"] == "not on the allow-list"
    assert PluginRegistry(allow=[]).names() == []


@pytest.mark.parametrize(
    ("value", "names"),
    [("none", []), ("good_c", ["good"]), ("good_c, more_c", ["good", "more"]), ("", ["good", "more"])],
)
def test_the_environment_variable_narrows_what_is_loaded(
    install: Install, monkeypatch: pytest.MonkeyPatch, value: str, names: list[str]
) -> None:
    install("good-dist", {"good_c": scorer_source("good")})
    install("more-dist", {"more_c": scorer_source("more")})
    monkeypatch.setenv("DEATTRIB_PLUGINS", value)
    registry = PluginRegistry()
    assert registry.names() == names
    assert all("DEATTRIB_PLUGINS" in row["reason"] for row in registry.listing() if row["state"] == "disabled")


@pytest.mark.parametrize("setting", ["disable", "allow"])
def test_a_setting_that_names_nothing_installed_warns(install: Install, setting: str) -> None:
    install("words-dist", {"words_f": scorer_source("words")})
    with pytest.warns(UserWarning, match=rf"plugins\.{setting} names 'words_g'.*Did you mean 'words_f'"):
        PluginRegistry(**{setting: ["words_g", "words_f"]})  # type: ignore[arg-type]


def test_a_string_where_a_list_belongs_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"plugins\.disable is 'words': expected a list, such as \[words\]"):
        PluginRegistry(disable="words", entry_points=False)


def test_everything_required_that_is_missing_is_in_one_error(install: Install) -> None:
    install("words-dist", {"words_h": scorer_source("words")}, version="1.1")
    install("bad-dist", {"bad_d": "raise RuntimeError('no luck')\n"})
    PluginRegistry(require=["words-dist>=1.0", "words_h", "words_dist"])
    with pytest.raises(PluginError) as caught:
        PluginRegistry(require=["word-dist", "words-dist>=1.2", "bad-dist", "=="])
    for part in ("word-dist: not installed. Did you mean 'words-dist'", "words-dist 1.1 is installed", "no luck", "'=='"):
        assert part in str(caught.value)


def test_requiring_a_distribution_does_not_require_its_extras_but_naming_the_plugin_does(install: Install) -> None:
    modules = {"extra_d": "import absent_lib\n", "extra_e": scorer_source("plain")}
    install("extra-dist", modules, **EXTRAS)
    PluginRegistry(require=["extra-dist>=1"])
    with pytest.raises(PluginError, match=r"extra_d.*sparkle"):
        PluginRegistry(require=["extra_d"])


# -- making ------------------------------------------------------------------------------------------------------------
def test_make_takes_names_mappings_classes_and_instances() -> None:
    registry = registry_with(Simple)
    assert registry.make("simple").params.width == 3
    assert registry.make({"name": "simple", "width": 5}).params.width == 5
    made = registry.make(Simple)
    assert type(made) is Simple and registry.make(made) is made


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ({"name": "simple", "widht": 5}, ["'simple'", "this process", "no setting 'widht'", "Did you mean 'width'"]),
        ({"name": "simple", "width": "wide"}, ["setting 'width'", "valid integer", "got 'wide'"]),
        ({"name": "simple", "width": "wide", "label": 3}, ["'width'", "'label'"]),
        ({"width": 5}, ["mapping with a `name`"]),
        ({"name": 3}, ["got 3"]),
    ],
)
def test_wrong_settings_are_named(spec: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        registry_with(Simple).make(spec)
    for part in parts:
        assert part in str(caught.value)


def test_a_constructor_that_raises_is_named() -> None:
    class Fragile(Simple):
        name = "fragile"

        def __init__(self, params: Any = None) -> None:
            raise OSError("disk")

    with pytest.raises(PluginError, match=r"'fragile' \(this process.*cannot be made: OSError: disk"):
        registry_with(Fragile).make("fragile")


def test_a_wrapper_makes_its_inner_scorer_from_the_same_registry() -> None:
    class Wrapper(Simple):
        name = "wrapper"

        def __init__(self, params: Any = None) -> None:
            super().__init__(params)
            self.inner = make_scorer("simple")

    made = registry_with(Simple, Wrapper).make("wrapper")
    assert isinstance(made, Wrapper) and isinstance(made.inner, Simple)
    registry = PluginRegistry(entry_points=False)
    registry.register(plugin_with(Wrapper), name="only-wrapper")
    with pytest.raises(PluginError, match="no scorer 'simple'"):
        registry.make("wrapper")


# -- observing ---------------------------------------------------------------------------------------------------------
class Observer:
    def __init__(self, *, fail: bool = False) -> None:
        self.fail, self.seen = fail, []  # type: ignore[var-annotated]

    @hookimpl
    def step_finished(self, step: int) -> None:  # takes fewer arguments than the spec
        if self.fail:
            raise RuntimeError("disk full")
        self.seen.append(step)


def test_an_observer_that_raises_is_named_and_does_not_silence_the_others() -> None:
    registry = PluginRegistry(entry_points=False)
    first, broken, last = Observer(), Observer(fail=True), Observer()
    for name, observer in (("first", first), ("broken", broken), ("last", last)):
        registry.register(observer, name=name)
    messages = registry.notify("step_finished", step=4, figures={"loss": 1.0})
    assert (first.seen, last.seen) == ([4], [4])
    assert len(messages) == 1 and "'broken'" in messages[0] and "RuntimeError: disk full" in messages[0]
    assert registry.notify("run_started", folder=None, config={}) == []
    with pytest.raises(PluginError, match=r"'broken'.*step_finished"):
        registry.notify("step_finished", strict=True, step=5, figures={})


def test_observers_are_listed_with_their_hooks() -> None:
    registry = PluginRegistry(entry_points=False)
    registry.register(Observer(), name="tracker")
    row = by_name(registry)["tracker"]
    assert (row["kind"], row["overrides"], row["state"]) == ("observer", ["step_finished"], "ready")


def test_registering_a_name_twice_is_refused() -> None:
    registry = PluginRegistry(entry_points=False)
    registry.register(Observer(), name="tracker")
    with pytest.raises(PluginError, match="'tracker'"):
        registry.register(Observer(), name="tracker")
