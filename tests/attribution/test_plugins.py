"""The registry: what is found, what is refused and in which words, and that one broken plugin harms nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.attribution.sources import scorer_source

import deattrib
from deattrib import ConfigError, PluginError, PluginRegistry, Scorer, hookimpl, make_scorer
from deattrib.attribution.scorer import API_VERSION
from deattrib.cli.plugins import render

Install = Callable[..., None]


def by_name(registry: PluginRegistry) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in registry.listing()}


class Simple(Scorer):
    """A scorer made in this file."""

    name = "simple"

    class Params(Scorer.Params):
        width: int = 3
        label: str = "a"

    def score(self, rows: Any) -> Any:
        return [0.0] * len(rows)


def plugin_with(*classes: Any, hook: str = "scorers") -> SimpleNamespace:
    def registration() -> list[Any]:
        return list(classes)

    return SimpleNamespace(**{hook: hookimpl(registration)})


def registry_with(*classes: Any, hook: str = "scorers") -> PluginRegistry:
    registry = PluginRegistry(entry_points=False)
    registry.register(plugin_with(*classes, hook=hook), name="test-plugin")
    return registry


# -- finding -----------------------------------------------------------------------------------------------------------
def test_an_installed_scorer_is_found_with_its_origin(install: Install) -> None:
    install("words-dist", {"words_a": scorer_source("words")}, version="2.3")
    registry = PluginRegistry()
    cls = registry.scorer("words")
    origin = registry.origin(cls)
    assert (cls.name, origin.distribution, origin.version, origin.entry_point) == ("words", "words-dist", "2.3", "words_a")
    assert str(origin) == "words-dist 2.3, entry point 'words_a'"
    assert registry.names() == ["words"]
    assert registry.versions == {"words-dist": "2.3"}


def test_an_unknown_scorer_gets_close_names(install: Install) -> None:
    install("words-dist", {"words_b": scorer_source("words")})
    with pytest.raises(PluginError, match=r"no scorer 'wrds'\. Did you mean 'words'\?"):
        PluginRegistry().scorer("wrds")


def test_without_any_plugin_the_error_says_how_to_get_them(install: Install) -> None:
    with pytest.raises(PluginError, match=r"pip install \."):
        PluginRegistry().scorer("classifier")


def test_entry_points_false_ignores_what_is_installed(install: Install) -> None:
    install("words-dist", {"words_c": scorer_source("words")})
    assert PluginRegistry(entry_points=False).listing() == []


# -- broken plugins ----------------------------------------------------------------------------------------------------
def test_a_broken_import_harms_nobody_until_it_is_asked_for(install: Install) -> None:
    install("good-dist", {"good_a": scorer_source("good")})
    install("bad-dist", {"bad_a": "x = 1\nraise RuntimeError('no luck')\n"}, version="0.7")
    registry = PluginRegistry()
    assert registry.scorer("good").name == "good"
    row = by_name(registry)["bad_a"]
    assert (row["state"], row["kind"], row["distribution"], row["version"]) == ("failed", "plugin", "bad-dist", "0.7")
    with pytest.raises(PluginError) as caught:
        registry.scorer("bad_a")
    for part in ("bad_a", "bad-dist 0.7", "RuntimeError: no luck", "bad_a.py:2"):
        assert part in str(caught.value)
    with pytest.raises(PluginError, match=r"Plugins that failed to load: bad_a"):
        registry.scorer("something")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
        ("def broken(:\n", "SyntaxError"),
        ("x = 1\n", "has no hook"),
        ("from deattrib import hookimpl\n@hookimpl\ndef scorrers(): pass\n", "unknown hook 'scorrers'. Did you mean 'scorers'"),
        ("from deattrib import hookimpl\n@hookimpl\ndef step_finished(step, loss): pass\n", "does not fit its spec"),
        ("from deattrib import hookimpl\n@hookimpl\ndef scorers(): return 7\n", "returned 7: expected a list of classes"),
        ("from deattrib import hookimpl\n@hookimpl\ndef scorers(): return [3]\n", "brings 3 where a scorer class is expected"),
        ("from deattrib import hookimpl\n@hookimpl\ndef scorers(): raise KeyError('k')\n", "KeyError: 'k'"),
        ("from deattrib import hookimpl\n@hookimpl(wrapper=True)\ndef scorers(): return (yield)\n", "wraps hook scorers()"),
    ],
)  # fmt: skip
def test_what_a_plugin_is_refused_for(install: Install, source: str, expected: str) -> None:
    install("odd-dist", {"odd_a": source})
    registry = PluginRegistry()
    assert expected in by_name(registry)["odd_a"]["reason"]
    with pytest.raises(PluginError, match=r"odd-dist 1\.0"):
        registry.scorer("odd_a")


def test_a_refused_plugin_leaves_no_hooks_behind(install: Install) -> None:
    source = """
    from deattrib import hookimpl
    @hookimpl
    def step_finished(step): raise RuntimeError("still called")
    @hookimpl
    def misspelt(): pass
    """
    install("odd-dist", {"odd_b": source})
    registry = PluginRegistry()
    assert registry.notify("step_finished", step=1, figures={}) == []
    registry.hook.step_finished(step=1, figures={})


def test_an_entry_point_that_names_the_class_is_told_to_name_the_module(install: Install) -> None:
    install("class-dist", {"words_d": scorer_source("words")}, entry_points={"words": "words_d:Words"})
    with pytest.raises(PluginError, match="name the module"):
        PluginRegistry().scorer("words")


def test_a_scorer_that_was_refused_is_known_by_its_own_name(install: Install) -> None:
    install("new-dist", {"new_a": scorer_source("newest", body=f"api_version = {API_VERSION + 1}")})
    with pytest.raises(
        PluginError, match=rf"interface {API_VERSION + 1}.*interface {API_VERSION}.*pip install --upgrade deattrib"
    ):
        PluginRegistry().scorer("newest")


# -- missing extras ----------------------------------------------------------------------------------------------------
EXTRAS: dict[str, Any] = {
    "extras": ("sparkle", "all"),
    "requires": ('absent-lib>=1; extra == "sparkle"', 'absent-lib>=1; extra == "all"', 'other; extra == "all"'),
}


def test_a_missing_module_of_an_extra_gives_the_pip_command(install: Install) -> None:
    install("extra-dist", {"extra_a": "import absent_lib\n"}, **EXTRAS)
    with pytest.raises(PluginError, match=r'No module named \'absent_lib\'.*pip install "extra-dist\[sparkle\]"'):
        PluginRegistry().scorer("extra_a")


def test_a_missing_module_of_no_extra_gives_no_guessed_command(install: Install) -> None:
    requires = ('absent-lib; python_version > "3"', 'other; extra == "sparkle"')
    install("extra-dist", {"extra_b": "import absent_lib\n"}, requires=requires, extras=("sparkle",))
    with pytest.raises(PluginError, match="absent_lib") as caught:
        PluginRegistry().scorer("extra_b")
    assert "pip install" not in str(caught.value)


def test_a_scorer_that_says_what_it_needs_fails_when_asked_for_and_not_mid_run(install: Install) -> None:
    install("extra-dist", {"extra_c": scorer_source("lazy", body='needs = ("extra-dist[sparkle]", "identities")')}, **EXTRAS)
    registry = PluginRegistry()
    row = by_name(registry)["lazy"]
    assert row["state"] == "failed" and row["needs"] == ["extra-dist[sparkle]", "identities"]
    with pytest.raises(PluginError, match=r'absent-lib is not installed.*pip install "extra-dist\[sparkle\]"'):
        registry.scorer("lazy")
    install("absent-lib")
    assert PluginRegistry().scorer("lazy").name == "lazy"


# -- collisions --------------------------------------------------------------------------------------------------------
def test_one_entry_point_name_from_two_distributions_is_refused(install: Install) -> None:
    install("one-dist", {"one_a": scorer_source("one")}, entry_points={"same": "one_a"}, version="1.1")
    install("two-dist", {"two_a": scorer_source("two")}, entry_points={"same": "two_a"}, version="2.2")
    with pytest.raises(PluginError, match=r"'same'.*one-dist 1\.1.*two-dist 2\.2"):
        PluginRegistry()
    assert PluginRegistry(disable=["one-dist"]).names() == ["two"]


def test_one_scorer_name_from_two_distributions_is_refused(install: Install) -> None:
    install("one-dist", {"one_b": scorer_source("same")}, version="1.1")
    install("two-dist", {"two_b": scorer_source("same")}, version="2.2")
    with pytest.raises(PluginError, match=r"scorer 'same': one-dist 1\.1.*two-dist 2\.2"):
        PluginRegistry()
    registry = PluginRegistry(disable=["one_b"])
    assert registry.origin(registry.scorer("same")).distribution == "two-dist"


@pytest.mark.parametrize(("hook", "kind"), [("metrics", "metric"), ("methods", "method"), ("attacks", "attack")])
def test_metrics_and_methods_are_chosen_and_refused_like_scorers(hook: str, kind: str) -> None:
    class Thing:
        """One thing."""

        name = "thing"

    registry = registry_with(Thing, hook=hook)
    assert getattr(registry, kind)("thing") is Thing
    assert by_name(registry)["thing"]["kind"] == kind
    with pytest.raises(PluginError, match=f"Two plugins bring the {kind} 'thing'"):
        registry.register(plugin_with(type("Other", (), {"name": "thing"}), hook=hook), name="second")
    registry.register(plugin_with(type("Other", (), {"name": "other"}), hook=hook), name="second")
    with pytest.raises(PluginError, match=f"no {kind} 'thin'"):
        getattr(registry, kind)("thin")


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


# -- listing -----------------------------------------------------------------------------------------------------------
def test_the_listing_says_what_a_user_needs_to_choose(install: Install) -> None:
    body = 'fidelity = "approximate"\n    def score_tokens(self, rows): return []'
    install("words-dist", {"words_j": scorer_source("words", body=body)}, version="1.4")
    assert PluginRegistry().listing() == [
        {
            "name": "words",
            "kind": "scorer",
            "fidelity": "approximate",
            "owner_free": False,
            "overrides": ["score_tokens"],
            "needs": [],
            "distribution": "words-dist",
            "version": "1.4",
            "entry_point": "words_j",
            "state": "ready",
            "reason": "",
            "summary": "Counts words.",
        }
    ]


def test_the_listing_is_rendered_as_json_and_as_text(install: Install) -> None:
    install("words-dist", {"words_k": scorer_source("words")})
    install("bad-dist", {"bad_e": "raise RuntimeError('\\x1b[31mred')\n"})
    listing = PluginRegistry().listing()
    assert json.loads(render(listing, as_json=True)) == listing
    text = render(listing)
    lines = text.splitlines()
    assert lines[0].split() == ["name", "kind", "fidelity", "state", "from"]
    assert any(line.split() == ["words", "scorer", "proxy", "ready", "words-dist", "1.0"] for line in lines)
    assert "Counts words." in text and "failed: RuntimeError" in text
    assert "\x1b" not in text and "\\x1b[31mred" in text
    assert all(
        len(line) <= 60 or len(line.split()) == 1 for line in render(listing, width=20).splitlines()[1:] if line[:1] == " "
    )
    assert render([]) == "No plugin is installed."


def test_the_listing_says_which_scorers_do_not_ask_for_the_owner(install: Install) -> None:
    install("words-dist", {"words_l": scorer_source("words"), "plain_a": scorer_source("plain", body="owner_free = True")})
    listing = PluginRegistry().listing()
    assert {entry["name"]: entry["owner_free"] for entry in listing} == {"plain": True, "words": False}
    assert render(listing).count("owner_free: the same score whoever is asked about") == 1


# -- the package itself ------------------------------------------------------------------------------------------------
def test_every_public_name_resolves() -> None:
    for name in deattrib.__all__:
        assert getattr(deattrib, name) is not None
        assert name in dir(deattrib)
    assert set(deattrib.__all__) - {"__version__"} == set(deattrib._EXPORTS)


def test_an_unknown_public_name_gets_close_names() -> None:
    with pytest.raises(AttributeError, match=r"Did you mean 'Scorer'"):
        deattrib.Scorr  # type: ignore[attr-defined]  # noqa: B018


def test_the_registry_loads_no_torch() -> None:
    code = """
import sys
import deattrib
from deattrib import Corpus, PluginError, PluginRegistry, Scorer, hookimpl
import deattrib.cli.plugins, deattrib_scorers.controls
PluginRegistry(entry_points=False).register(deattrib_scorers.controls, name="controls")
PluginRegistry()
assert "pluggy" in sys.modules and "torch" not in sys.modules
"""
    environment = {**os.environ, "DEATTRIB_PLUGINS": "none", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
