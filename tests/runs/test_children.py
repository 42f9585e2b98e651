"""What the exit of a run's own process means for the run, and who waits for whom."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
        (0, "", "it ended without a result"),  # `sys.exit()` somewhere in a plugin
        (143, "error: ended by SIGTERM", "interrupted; run the same command again to go on with it"),
        (1, "stage\nerror: no such scorer", "no such scorer"),
        (3, "", "exit code 3"),
    ],
)
def test_every_other_exit_says_why(tmp_path: Path, code: int, log: str, expected: str) -> None:
    assert child(tmp_path / "run", f"raise SystemExit({code})", log).error() == expected


class Made:
    """A run that is over at the second look."""

    def __init__(self, error: str) -> None:
        self._error, self.looks = error, 0

    def ended(self) -> bool:
        self.looks += 1
        return self.looks > 1

    def error(self) -> str:
        return self._error


class Recorder:
    """A launcher that makes no run and writes down what it was told."""

    patience = 0.001

    def __init__(self, errors: dict[str, str]) -> None:
        self.errors, self.log = errors, list[str]()

    def begin(self, cell: Any, folder: Path) -> Made:
        self.log.append(folder.name)
        return Made(self.errors.get(folder.name, ""))

    def leave(self, running: Any) -> None:
        self.log.append(f"left {len(running)}")


def cells(*models: str) -> list[Any]:
    """(cell, folder) of runs that share models where these words are the same."""
    return [
        (SimpleNamespace(models=word, config=SimpleNamespace(digest=f"{word}{place}")), Path(f"{word}{place}"))
        for place, word in enumerate(models)
    ]


def test_runs_that_share_models_wait_for_the_first_and_finished_ones_are_gathered() -> None:
    launcher, said, gathered = Recorder({"b1": "no such scorer"}), list[str](), list[int]()
    work = cells("a", "b", "a", "a")
    errors = children.carry_out(work, jobs=4, launcher=launcher, say=said.append, gather=lambda: gathered.append(len(said)))
    assert launcher.log == ["a0", "b1", "a2", "a3", "left 0"]
    assert errors == {"a0": "", "b1": "no such scorer", "a2": "", "a3": ""}
    happened = "begun a0, begun b1, finished a0, failed b1, begun a2, begun a3, finished a2, finished a3"
    assert [" ".join(line.split(",")[0].split()) for line in said] == happened.split(", ")
    assert len(gathered) == 3


def test_nobody_waits_for_models_that_are_there() -> None:
    launcher = Recorder({})
    said: list[str] = []
    children.carry_out(cells("a", "a", "b", "b"), jobs=2, launcher=launcher, say=said.append, made={"a"})
    assert [line.split()[1].strip(",") for line in said[:2]] == ["a0", "a1"]  # begun together
    assert launcher.log == ["a0", "a1", "b2", "b3", "left 0"]


def test_the_first_step_of_a_run_ends_the_wait_for_its_models(tmp_path: Path) -> None:
    class InLoop(Made):
        """At the third look it is in its loop, at the ninth over."""

        def ended(self) -> bool:
            self.looks += 1
            (tmp_path / "a0").mkdir(exist_ok=True)
            (tmp_path / "a0" / "events.jsonl").write_text("{}\n" if self.looks >= 3 else "")
            return self.looks > 8

    class Launcher(Recorder):
        def begin(self, cell: Any, folder: Path) -> Made:
            self.log.append(f"{folder.name} at {self.first.looks}")
            return self.first if folder.name == "a0" else Made("")

        first = InLoop("")

    launcher = Launcher({})
    work = [(cell, tmp_path / folder) for cell, folder in cells("a", "a")]
    children.carry_out(work, jobs=2, launcher=launcher, say=lambda text: None)
    assert launcher.log == ["a0 at 0", "a1 at 3", "left 0"]


def test_a_command_that_is_interrupted_leaves_what_runs_to_the_launcher() -> None:
    launcher = Recorder({})

    def say(text: str) -> None:
        if text.startswith("begun     b"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        children.carry_out(cells("a", "b", "c"), jobs=2, launcher=launcher, say=say)
    assert launcher.log == ["a0", "b1", "left 2"]
