"""A scorer or method on the command line: a name, with settings after colons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tests.command_line import deattrib
from tests.runs.tiny import TINY

from deattrib.cli.specs import optional_spec, parse_spec, split_specs
from deattrib.errors import ConfigError


def test_scorers_on_the_command_line() -> None:
    text = "classifier, min-k:reference=base:share=0.1,exact:owners=[a,b],./my.py:Mine,classifier"
    parts = split_specs(text)
    assert parts == ["classifier", "min-k:reference=base:share=0.1", "exact:owners=[a,b]", "./my.py:Mine"]
    assert [parse_spec(part) for part in parts] == [
        "classifier",
        {"name": "min-k", "reference": "base", "share": 0.1},
        {"name": "exact", "owners": ["a", "b"]},
        "./my.py:Mine",
    ]
    with pytest.raises(ConfigError, match="no setting of a scorer"):
        parse_spec("exact:a.b=1")
    assert optional_spec(None, option="--reward") is None
    with pytest.raises(ConfigError, match="--reward 'mine:a=\\[1'"):  # the option that it was given with, not --set
        parse_spec("mine:a=[1", option="--reward")
    assert parse_spec("/data/lr=3/my.py:Mine:order=2") == {"name": "/data/lr=3/my.py:Mine", "order": 2}
    assert parse_spec("min-k:reference=/mnt/a:b:share=0.1") == {"name": "min-k", "reference": "/mnt/a:b", "share": 0.1}
    assert parse_spec("mine:a={b: 1}") == {"name": "mine", "a": {"b": 1}}


def test_one_run_takes_them_too(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(TINY))
    words = ("--method", "npo:steps=7:beta=0.5", "--reward", "classifier:backbone=ngram")
    plan = json.loads(deattrib("run", "c.yaml", "--dry-run", "--json", *words, cwd=tmp_path).stdout)
    assert (plan["method"], plan["reward"], plan["steps"]["unlearn"]) == ("npo", "classifier", 7)
