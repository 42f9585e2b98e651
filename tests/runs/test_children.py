"""What the exit of a run's own process means for the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deattrib.runs import children
from deattrib.runs.folder import RunFolder


def child(folder: Path, code: str, log: str = "") -> children.Child:
    process = subprocess.Popen([sys.executable, "-c", code])
    process.wait()
    path = folder.parent / "log.txt"
    path.write_text(log)
    return children.Child(process, folder, path)


ABORT = "import os; os.abort()"


def test_a_process_that_breaks_while_it_shuts_down_has_finished_its_run(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", {"a": 1}, seeds={}, fingerprints={}) as folder:
        folder.set_state("running")
        assert "ended by SIGABRT" in child(folder.path, ABORT).error()
        folder.set_state("finished")
        assert child(folder.path, ABORT).error() == ""


@pytest.mark.parametrize(
    ("code", "log", "expected"),
    [
        (0, "", ""),
        (143, "error: ended by SIGTERM", "interrupted; run the same command again to go on with it"),
        (1, "stage\nerror: no such scorer", "no such scorer"),
        (3, "", "exit code 3"),
    ],
)
def test_every_other_exit_says_why(tmp_path: Path, code: int, log: str, expected: str) -> None:
    assert child(tmp_path / "run", f"raise SystemExit({code})", log).error() == expected
