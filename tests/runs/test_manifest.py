"""What a run was made with, and the differences that forbid a resume."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from deattrib.errors import RunError
from deattrib.runs.manifest import build_manifest, check_same, differences


def test_the_manifest_names_versions_without_importing_the_libraries() -> None:
    code = (
        "import sys, json; from deattrib.runs import folder, events, validation, overrides, manifest, checkpoint;"
        "m = manifest.build_manifest(seeds={'run': 1}, fingerprints={});"
        "assert not {'torch', 'transformers', 'numpy', 'safetensors'} & set(sys.modules), sorted(sys.modules);"
        "print(json.dumps(m))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}, check=False
    )
    assert result.returncode == 0, result.stderr
    manifest = json.loads(result.stdout)
    import torch

    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert set(manifest["versions"]) >= {"deattrib", "torch", "transformers", "peft", "trl", "pluggy", "pydantic", "numpy"}


@pytest.mark.parametrize(
    ("argument", "kept"),
    [
        ("run", "run"),
        ("/home/ada/thesis/run.yaml", "run.yaml"),
        ("corpus.path=/data/tofu", "corpus.path=tofu"),
        ("corpus.path=[/data/a, /data/b]", "corpus.path=[a, b]"),
        ("~/x/y.yaml", "y.yaml"),
        ("./my_scorer.py:Mine", "./my_scorer.py:Mine"),
        ("examples/tofu.yaml", "examples/tofu.yaml"),
        ("../x/y", "../x/y"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("a=1/2", "a=1/2"),
    ],
)
def test_arguments_tell_nothing_about_the_machine(argument: str, kept: str) -> None:
    assert build_manifest(seeds={}, fingerprints={}, arguments=[argument])["arguments"] == [kept]


def test_differences_by_path() -> None:
    old = {"a": 1, "b": {"c": [1, {"d": 2}], "e": 5}, "gone": {"x": 1}, "list": [1, 2], "same": [1.0, "x"]}
    new = {"a": 2, "b": {"c": [1, {"d": 3}], "e": 5}, "list": [1], "new": None, "same": (1.0, "x")}
    assert differences(old, new) == [
        ("a", "1", "2"),
        ("b.c[1].d", "2", "3"),
        ("gone", "{'x': 1}", "(not set)"),
        ("list", "[1, 2]", "[1]"),
        ("new", "(not set)", "None"),
    ]


def test_nan_is_the_same_and_true_is_not_one() -> None:
    assert differences({"a": float("nan")}, {"a": float("nan")}) == []
    assert differences({"a": True}, {"a": 1}) == [("a", "True", "1")]
    assert differences({"a": {}}, {"a": None}) == [("a", "{}", "None")]
    assert differences({"a": {}}, {"a": {}}) == []


def test_check_same_shows_every_difference() -> None:
    check_same({"a": {"b": 1}}, {"a": {"b": 1}})
    with pytest.raises(RunError) as caught:
        check_same({"ppo": {"steps": 100, "lr": 1}, "a": 1}, {"ppo": {"steps": 200, "lr": 2}, "a": 1, "ab": 1})
    message = str(caught.value)
    assert "\n  ppo.steps: 100 -> 200\n  ppo.lr: 1 -> 2\n  ab: (not set) -> 1\n" in message
    assert "settings" in message and "--output" in message
