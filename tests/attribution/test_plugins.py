"""The registry: what is found, refused (and in which words) and listed, and that one broken plugin harms nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from tests.attribution.sources import EXTRAS, by_name, plugin_with, registry_with, scorer_source

import deattrib
from deattrib import PluginError, PluginRegistry
from deattrib.attribution.scorer import API_VERSION
from deattrib.cli.plugins import render

Install = Callable[..., None]


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
