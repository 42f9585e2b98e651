"""The contract as other people's pytest sees it: what a wrong test class is told, without loading torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = '''
import sys

from deattrib.testing import ScorerContract


class TestNobody(ScorerContract):
    """Names no scorer."""


def test_nothing_heavy_was_loaded():
    assert not {"torch", "transformers", "numpy"} & set(sys.modules)
'''
HOLES = """
from deattrib.testing import ScorerContract


class TestHoles(ScorerContract):
    scorer = "random"

    def test_any_batch_split(self):
        pass
"""


def pytest_in(folder: Path) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    environment = {**os.environ, "DEATTRIB_CACHE": str(folder / "cache"), "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120).stdout


def test_a_class_without_a_scorer_says_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "test_nobody.py").write_text(TESTS)
    printed = pytest_in(tmp_path)
    assert "TestNobody names no scorer: write `scorer = MyScorer`" in printed
    assert "1 passed" in printed and "17 errors" in printed
    assert not (tmp_path / "cache").exists()  # no model was made for it


def test_a_class_with_holes_is_not_collected(tmp_path: Path) -> None:
    (tmp_path / "test_holes.py").write_text(HOLES)
    printed = pytest_in(tmp_path)
    assert "TestHoles overrides the contract test test_any_batch_split" in printed
    assert "1 error" in printed and "passed" not in printed
