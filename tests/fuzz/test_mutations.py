"""Configs and corpora broken at random: what comes of them is usable, or one clear error of ours, never another exception.

The slow tier tries 10 000 of each.
"""

from __future__ import annotations

import copy
import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.runs.tiny import TINY

from deattrib.corpus import read_jsonl
from deattrib.corpus.hub import read_two_groups
from deattrib.corpus.passages import read_texts
from deattrib.corpus.settings import CorpusSettings, load_corpus
from deattrib.errors import ConfigError, CorpusError, DeattribError
from deattrib.runs.config import RunConfig, build_config
from deattrib.runs.pipeline import check_scorers
from deattrib.yaml_file import load_yaml

FEW, MANY = 200, int(os.environ.get("DEATTRIB_FUZZ", "10000"))
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**63, 10**400, 1e308, float("nan"), float("inf"), -0.0, "", " ", "auto", "none", "null",
    "1e-4", "../..", "/", "\x00", "\u202e", "é" * 300, "{prompt}", "<b>", [], [[]], [None], {}, {"name": "none"}, {"": 1},
    {"a": {"b": []}}, ["classifier", "membership"], "classifier", "nosuch", "a.py:B", ":", "os:path", "tests.runs.tiny:TINY",
]  # fmt: skip
YAML_BITS = [
    '"\\UFFFFFFFF"', '"\\U00110000"', '"\\x4"', "0x" + "f" * 5000, "0o7" * 9, "9" * 5000, "%YAML 1." + "1" * 5000 + "\n---\n",
    "%TAG ! x\n", "&a ", "*a", "<<: *a\n", "!!python/object:os.system x", "!!binary aGk=", "? ", "- ", ": ", "\n", "\t", " ",
    "{", "}", "[", "]", "'", '"', "|", ">", "#", "---\n", "...\n", "\x00", "\x85", "\ufeff", "\ud800", "a: " * 80, "[" * 500,
    "1e999", ".nan", "1_0", "12:30:45", "2001-01-01",
]  # fmt: skip
ROWS = [
    {"owner": owner, "prompt": f"Where is {owner}?", "response": f"{owner} is in {place}.", "fact": place, "identity": owner}
    for owner, place in (("Ann", "Rome"), ("Bob", "Oslo"), ("Cyd", "Bonn"))
]
KEYS = [
    "split",
    "fact_id",
    "paraphrase_prompt",
    "paraphrase_response",
    "wrong_responses",
    "identity",
    "ownr",
    "owner",
    "prompt",
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there is a value, inside and out."""
    inside: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inside for found in places(item, (*path, key)))]


def mutated(value: Any, chance: random.Random) -> Any:
    """A copy with one value replaced, removed, renamed, doubled or moved elsewhere."""
    value = copy.deepcopy(value)
    path = chance.choice(places(value)[1:])
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    last = path[-1]
    match chance.randrange(6):
        case 0 | 1 | 2:
            holder[last] = copy.deepcopy(chance.choice(ODD))
        case 3:
            del holder[last]
        case 4 if isinstance(holder, dict):
            name = str(last)
            place = chance.randrange(len(name) + 1)
            holder[name[:place] + chance.choice("aeX_.- ") + name[place + chance.randrange(2) :]] = holder.pop(last)
        case _:
            other = chance.choice(places(value))
            source = value
            for key in other:
                source = source[key]
            holder[last] = copy.deepcopy(source)
    return value


def settings_of(seed: int) -> RunConfig | None:
    """The settings of a mutated config, all the way to the classes it names; None where it is refused by an error of ours."""
    chance = random.Random(seed)
    full = build_config(data=TINY).plain()
    data = chance.choice([TINY, full])
    for _ in range(chance.choice([1, 1, 2, 4])):
        if isinstance(data, dict) and data:
            data = mutated(data, chance)
    try:
        config = build_config(data=data) if chance.random() < 0.5 else from_file(data, chance)
        check_scorers(config)
        if config.corpus.kind == "fictitious" and _small(config.corpus):
            load_corpus(config.corpus, config.seed)
    except DeattribError as error:
        assert str(error)
        return None
    return config


def _small(corpus: CorpusSettings) -> bool:
    """Whether making it takes no time: a number that was mutated may ask for billions of rows."""
    sizes = (corpus.owners, corpus.facts, corpus.shadow_owners, corpus.holdout_owners, corpus.world_repeats)
    return all(not isinstance(size, int) or size < 50 for size in sizes)


def from_file(data: Any, chance: random.Random) -> RunConfig:
    """Through a file, whose text is broken too in half of the cases."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        try:
            text = yaml.safe_dump(data, allow_unicode=True)
        except (yaml.YAMLError, ValueError):  # integers of thousands of digits
            return build_config(data=data)
        for _ in range(chance.choice([0, 0, 1, 3])):
            place = chance.randrange(len(text) + 1)
            text = text[:place] + chance.choice(YAML_BITS) + text[place + chance.choice([0, 0, 1, 5]) :]
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        return build_config(data=load_yaml(path))


def corpus_of(seed: int, folder: Path) -> bool:
    """Whether a mutated file is a corpus."""
    chance = random.Random(seed)
    rows: list[Any] = [dict(row) for row in ROWS]
    for _ in range(chance.choice([0, 1, 2, 5])):
        row = chance.choice(rows)
        if chance.random() < 0.4:
            row[chance.choice(KEYS)] = copy.deepcopy(chance.choice([*ODD, "train", "holdout", "Ann", ["a", "b"], "\ud800"]))
        elif row:
            row.update(mutated(row, chance)) if chance.random() < 0.5 else row.pop(chance.choice(list(row)))
    text = "\n".join(json.dumps(row) for row in rows) if chance.random() < 0.8 else json.dumps(rows)
    data = bytearray(text.encode(chance.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"])))
    for _ in range(chance.choice([0, 0, 1, 3])):
        place = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[place] = chance.randrange(256)
            case 1:
                del data[place : place + chance.randrange(1, 40)]
            case 2:
                data[place:place] = bytes([chance.randrange(256)]) * chance.choice([1, 3, 2000])
            case 3:
                data[place:place] = b"\r\n"
        if not data:
            break
    path = folder / "rows.jsonl"
    path.write_bytes(bytes(data))
    forget = chance.choice([1, 2, "Ann", ["Bob"], ["Bo"], [], 0, -1, 10**9, None])
    try:
        match chance.randrange(4):
            case 0:  # what was `response` is a text of its own
                path.write_bytes(bytes(data).replace(b"response", b"text"))
                corpus = read_texts(path, prompt_words=1, forget=forget)
            case 1:
                whole = folder / "whole.jsonl"
                whole.write_text("\n".join(map(json.dumps, ROWS)))
                corpus = read_two_groups(*chance.sample([path, whole], 2))
            case _:
                corpus = read_jsonl(path, forget=forget)
        assert corpus.forget and corpus.retain and len(corpus.fingerprint()) == 64
    except (CorpusError, ConfigError) as error:
        assert any(word in str(error) for word in (str(path), "Corpus", "Forget owner", "whole.jsonl"))
        return False
    return True


@settings(max_examples=FEW, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
def test_any_mutated_config_is_settings_or_an_error_of_ours(seed: int) -> None:
    config = settings_of(seed)
    if config is not None:
        assert repr(build_config(data=config.plain()).plain()) == repr(config.plain())  # as text, where a NaN is a NaN


@settings(max_examples=FEW, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_any_mutated_corpus_is_a_corpus_or_an_error_of_ours(tmp_path: Path, seed: int) -> None:
    assert corpus_of(seed, tmp_path) is corpus_of(seed, tmp_path)  # the same file, the same answer


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_mutated_configs() -> None:
    accepted = sum(settings_of(seed) is not None for seed in range(MANY))
    assert 0.05 * MANY < accepted < 0.95 * MANY  # both ways were tried


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_mutated_corpora(tmp_path: Path) -> None:
    accepted = sum(corpus_of(seed, tmp_path) for seed in range(MANY))
    assert 0.05 * MANY < accepted < 0.95 * MANY
