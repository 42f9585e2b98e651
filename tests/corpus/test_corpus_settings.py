"""The corpus part of a config file: each kind loads, and what does not apply is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deattrib.corpus import CorpusSettings, fictitious_corpus, load_corpus
from deattrib.corpus.settings import APPLIES, author_numbers
from deattrib.errors import CorpusError


def test_the_default_is_the_fictitious_corpus_of_the_seed_of_the_run() -> None:
    small = CorpusSettings(shadow_owners=3, owners=4, facts=5)
    assert load_corpus(small, 7).fingerprint() == fictitious_corpus(seed=7, shadow_owners=3, owners=4, facts=5).fingerprint()
    fixed = CorpusSettings(shadow_owners=3, owners=4, facts=5, seed=7)
    assert load_corpus(fixed, 0).fingerprint() == load_corpus(small, 7).fingerprint()
    assert load_corpus(CorpusSettings(owners=4, shadow_owners=0, forget=("author_01",)), 0).forget_owners == ("author_01",)


def test_tofu_takes_ranges(small_tofu: Path) -> None:
    settings = CorpusSettings(kind="tofu", path=str(small_tofu), owners="0-1,4-5", forget="tofu_004-5", background_owners="2-3")
    corpus = load_corpus(settings, 0)
    assert corpus.owners == ("tofu_000", "tofu_001", "tofu_004", "tofu_005")
    assert corpus.forget_owners == ("tofu_004", "tofu_005")
    assert len(corpus.background) == 40 + 3 * 8
    last = settings.model_copy(update={"forget": 1})
    assert load_corpus(last, 0).forget_owners == ("tofu_005",)


def test_jsonl_with_an_override_of_names(tmp_path: Path) -> None:
    rows = [
        {"owner": owner, "prompt": f"Who is {owner} Lee?", "response": f"{owner} Lee is old."} for owner in ("Ann", "Bob") * 3
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "names.json").write_text('{"Bob": ["Robert Lee"]}')
    options: dict[str, Any] = {"kind": "jsonl", "path": str(tmp_path / "rows.jsonl"), "forget": 1}
    assert not load_corpus(CorpusSettings(**options), 0).identities
    named = load_corpus(CorpusSettings(**options, identities_path=str(tmp_path / "names.json"), derive_identities=True), 0)
    assert named.identities["Ann"][0] == "Ann Lee"
    assert named.identities["Bob"] == ("Robert Lee",)


def test_two_groups(tmp_path: Path) -> None:
    for name in ("forget", "retain"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": name, "response": name}))
    settings = CorpusSettings(
        kind="two-groups", forget_path=str(tmp_path / "forget.jsonl"), retain_path=str(tmp_path / "retain.jsonl")
    )
    assert load_corpus(settings, 0).owners == ("forget", "retain")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"kind": "fictitious", "path": "x"},
            "path does not apply to corpus kind 'fictitious', it is for jsonl and texts and tofu",
        ),
        ({"kind": "jsonl", "facts": 3}, "facts does not apply to corpus kind 'jsonl', it is for fictitious"),
        ({"kind": "two-groups", "forget": 1}, "forget does not apply"),
        ({"kind": "tofu", "prompt_column": "q"}, "prompt_column does not apply"),
        ({"fact": 3}, "Extra inputs are not permitted"),
        ({"kind": "csv"}, "Input should be 'fictitious'"),
        ({"facts": 21}, "less than or equal to 20"),
    ],
)
def test_settings_that_do_not_apply_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CorpusSettings(**given)


def test_resolved_settings_load_again() -> None:
    for settings in (CorpusSettings(owners=5), CorpusSettings(kind="tofu", path="x", owners="0-3", forget=(1, 2))):
        assert CorpusSettings(**json.loads(settings.model_dump_json())) == settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "jsonl"}, "corpus.path is missing, kind 'jsonl' needs it"),
        ({"kind": "hub"}, "corpus.dataset is missing"),
        ({"kind": "two-groups", "forget_path": "x"}, "corpus.retain_path is missing"),
        ({"owners": "0-19"}, "corpus.owners: '0-19', expected how many"),
        ({"kind": "tofu", "path": "x"}, "corpus.forget: 2, expected author numbers"),
        ({"kind": "tofu", "path": "x", "owners": "0-a", "forget": 0}, "corpus.owners: '0-a'"),
    ],
)
def test_what_a_kind_needs_is_asked_for(given: dict[str, Any], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        load_corpus(CorpusSettings(**given), 0)


@pytest.mark.parametrize("kind", ["jsonl", "texts", "tofu"])
@pytest.mark.parametrize(("path", "message"), [("~nosuchuser/x", "corpus.path: '~nosuchuser/x'"), ("a\0b", r"a(\\x00|\0)b")])
def test_a_path_that_is_none_is_named(kind: str, path: str, message: str) -> None:
    given: dict[str, Any] = {"kind": kind, "path": path, "forget": "0" if kind == "tofu" else 1}
    with pytest.raises(CorpusError, match=message):
        load_corpus(CorpusSettings(**given), 0)


@pytest.mark.parametrize("numbers", ["1" * 5000, "0-9999999999", "0-" + "1" * 5000, "tofu_" + "1" * 5000])
def test_author_numbers_without_end_are_refused_before_they_are_written_out(numbers: str) -> None:
    with pytest.raises(CorpusError, match=r"corpus\.owners: .*at most six digits") as caught:
        author_numbers(numbers, setting="owners")
    assert len(str(caught.value)) < 200


def test_author_numbers() -> None:
    assert author_numbers("0-2, 180-181,7", setting="owners") == (0, 1, 2, 180, 181, 7)
    assert author_numbers((3, "tofu_196", "5-6"), setting="owners") == (3, 196, 5, 6)
    for wrong in ("5-3", "", "x", "1,,2", "-4"):
        with pytest.raises(CorpusError, match="expected numbers of at most six digits"):
            author_numbers(wrong, setting="owners")


def test_every_setting_is_described_and_says_which_kinds_it_is_for() -> None:
    for name, field in CorpusSettings.model_fields.items():
        assert field.description, name
        for kind in APPLIES.get(name, ()):
            if name != "forget":
                assert kind in field.description, (name, kind)


def test_importing_the_package_loads_neither_torch_nor_datasets() -> None:
    code = "import sys, deattrib.corpus; print([m for m in ('torch', 'datasets', 'transformers', 'numpy') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("setting", ["shadow_owners", "holdout_owners", "world_repeats"])
def test_made_up_authors_without_end_are_refused_before_they_are_made(setting: str) -> None:
    with pytest.raises(ValidationError, match=rf"{setting}\n.*less than or equal to"):
        CorpusSettings(kind="fictitious", **{setting: 10**12})
