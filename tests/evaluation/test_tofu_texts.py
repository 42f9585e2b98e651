"""The detectors on real text: set DEATTRIB_TOFU to a folder with the JSON files of TOFU, else this is skipped."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from deattrib.evaluation.gibberish import GibberishDetector
from deattrib.evaluation.text import gibberish_flags, refusal_flags

FOLDER = os.environ.get("DEATTRIB_TOFU")
pytestmark = pytest.mark.skipif(not FOLDER, reason="DEATTRIB_TOFU is not set to a folder with TOFU's JSON files")


def answers(name: str) -> list[str]:
    return [row["answer"] for row in json.loads((Path(FOLDER or "") / name).read_text())]


@pytest.fixture(scope="module")
def detector() -> GibberishDetector:
    """Fitted on authors 20-179 and world facts: 0-19 and 180-199 are never seen."""
    return GibberishDetector.fit([*answers("full.json")[400:3600], *answers("world_facts.json"), *answers("real_authors.json")])


def test_authors_never_seen_pass_and_shuffled_ones_do_not(detector: GibberishDetector) -> None:
    full = answers("full.json")
    strangers = full[:400] + full[3600:]
    rng = random.Random(0)
    shuffled = [" ".join(rng.sample(words, len(words))) for words in map(str.split, strangers)]
    assert gibberish_flags(strangers, detector).mean() <= 0.01
    assert gibberish_flags(shuffled, detector).mean() >= 0.95


def test_refusals_are_told_from_answers() -> None:
    refusals = (Path(FOLDER or "") / "idontknow.jsonl").read_text().strip().splitlines()
    assert refusal_flags(refusals).mean() >= 0.9
    assert refusal_flags(answers("full.json")).mean() == 0
