"""The pages name every key that a run writes, and every file of a run says which version of its keys it has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from tests.docs.fences import DOCS
from torch import nn

from deattrib import Corpus, unlearn
from deattrib.evaluation import row_file
from deattrib.runs.attack import ATTACKS_FILE
from deattrib.runs.compare import CELLS, RESULTS

METRICS = (DOCS / "metrics.md").read_text(encoding="utf-8")
API = (DOCS / "api.md").read_text(encoding="utf-8")
FILES = ("metrics.json", "answers.json", "manifest.json", "state.json", "events.jsonl", "timings.jsonl")


def keys_of(title: str) -> list[str]:
    """The keys in the first column of a section's table."""
    (part,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", METRICS, re.M | re.S)
    return [key for line in part.splitlines() if line.startswith("| `") for key in re.findall(r"`(\w+)`", line.split("|")[1])]


def test_each_figure_of_a_step_is_described(tiny_run: Path) -> None:
    events = [json.loads(line) for line in (tiny_run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    there = {key for event in events if event["kind"] == "step" for key in event} - {"schema", "step", "kind"}
    assert len(there) > 12 and there <= set(keys_of("Figures of a step"))


@pytest.mark.parametrize("method", ["graddiff", "scrub", "rmu"])
def test_each_figure_of_a_baseline_is_described(
    method: str, tiny_llama: nn.Module, tiny_tokenizer: Any, tiny_corpus: Corpus
) -> None:
    settings = {"method": method, "ppo": {"steps": 2, "batch_size": 4}}
    done = unlearn(tiny_corpus, tiny_llama, tiny_tokenizer, reward="none", base=tiny_llama, settings=settings)
    there = {key for figures in done.history for key in figures}
    assert {"forget_loss", "loss"} <= there <= set(keys_of("Figures of a step"))


def test_each_figure_of_a_step_is_one_of_the_code() -> None:
    """A line of the table whose figure is gone is found too."""
    parts = Path(DOCS.parent / "core" / "deattrib")
    source = "".join(path.read_text(encoding="utf-8") for part in ("ppo", "methods") for path in (parts / part).glob("*.py"))
    listed = keys_of("Figures of a step")
    assert len(listed) == len(set(listed)) and [key for key in listed if f'"{key}"' not in source] == []


def test_each_key_of_the_metrics_is_described(tiny_run: Path) -> None:
    metrics = json.loads((tiny_run / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics) == set(keys_of("`metrics.json`"))


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_run_says_which_version_it_is(tiny_run: Path, name: str) -> None:
    text = (tiny_run / name).read_text(encoding="utf-8")
    entries = [json.loads(line) for line in text.splitlines()] if name.endswith(".jsonl") else [json.loads(text)]
    assert entries and all(entry["schema"] == 1 for entry in entries)


def test_the_figures_of_rows_say_it_in_their_header(tiny_run: Path) -> None:
    with safe_open(tiny_run / row_file.NAME, "numpy") as file:
        assert file.metadata()["schema"] == row_file.SCHEMA


def test_each_public_file_is_listed(tiny_run: Path) -> None:
    listed = set(re.findall(r"`([\w.]+\.\w+)`", API.split("## Versions")[0]))
    assert {*FILES, row_file.NAME, ATTACKS_FILE, CELLS, RESULTS, "audit.json", "compare.json", "config.yaml"} <= listed
    written = {path.name for path in tiny_run.iterdir() if path.is_file() and path.suffix not in (".html", ".lock")}
    assert written - listed <= {"lock", ".lock"}
