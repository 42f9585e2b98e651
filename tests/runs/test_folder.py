"""Run folders: nothing is overwritten, one process at a time, what was written comes back."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from deattrib.errors import ConfigError, RunError
from deattrib.runs.child import can_resume
from deattrib.runs.folder import RunFolder, default_output, failed_in_vain, read_config, read_manifest, read_state
from deattrib.runs.lock import RunLock, in_use

CONFIG: dict[str, Any] = {"name": "demo", "ppo": {"learning_rate": 1e-4, "steps": 100}, "reward": ["a", "1e-4"], "none": None}


def create(path: Path, **changes: Any) -> RunFolder:
    return RunFolder.create(path, CONFIG | changes, seeds={"run": 0}, fingerprints={"corpus": "abc"})


def test_a_new_run_and_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    with create(path) as folder:
        assert folder.state == "created"
        assert folder.config == CONFIG
        assert folder.checkpoints.is_dir()
        folder.set_state("running")
        folder.write_metrics({"schema": 1, "b": float("nan"), "a": 1})
        folder.set_state("finished")
    assert read_config(path) == CONFIG
    assert read_state(path) == "finished"
    assert json.loads((path / "metrics.json").read_text()) == {"schema": 1, "b": None, "a": 1}
    manifest = read_manifest(path)
    assert manifest["seeds"] == {"run": 0}
    assert manifest["fingerprints"] == {"corpus": "abc"}


def test_open_reads_back_and_cleans_up(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with create(path) as folder:
        folder.set_state("failed", reason="a scorer returned NaN")
        manifest = folder.manifest
    (path / ".tmp-0123").write_text("half")
    with RunFolder.open(path) as folder:
        assert (folder.config, folder.manifest, folder.state) == (CONFIG, manifest, "failed")
    assert not list(path.glob(".tmp-*"))


def test_a_finished_run_is_never_overwritten(tmp_path: Path) -> None:
    with create(tmp_path / "run") as folder:
        folder.set_state("finished")
    before = {item.name: item.read_bytes() for item in (tmp_path / "run").iterdir() if item.is_file()}
    with pytest.raises(RunError) as caught:
        create(tmp_path / "run", name="other")
    for word in (str(tmp_path / "run"), "--output", "metrics.json", "remove"):
        assert word in str(caught.value)
    assert {item.name: item.read_bytes() for item in (tmp_path / "run").iterdir() if item.is_file()} == before


@pytest.mark.parametrize("state", ["created", "running", "interrupted"])
def test_an_unfinished_run_is_not_overwritten_either(tmp_path: Path, state: Any) -> None:
    with create(tmp_path / "run") as folder:
        folder.set_state(state)
    with pytest.raises(RunError, match="--resume"):
        create(tmp_path / "run")


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    for name in ("thesis.tex", "config.yaml"):
        path = tmp_path / name.replace(".", "-")
        path.mkdir()
        (path / name).write_text("mine")
        with pytest.raises(RunError, match="not empty"):
            create(path)
        assert (path / name).read_text() == "mine"
        assert [item.name for item in path.iterdir()] == [name]


def test_an_empty_folder_and_a_creation_cut_short_are_used(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    create(tmp_path / "run").close()
    (tmp_path / "run" / "state.json").unlink()
    (tmp_path / "run" / ".tmp-77").write_text("half")
    with pytest.raises(RunError, match="without --resume"):
        RunFolder.open(tmp_path / "run")
    with create(tmp_path / "run", name="second") as folder:
        assert folder.config["name"] == "second"
    assert not list((tmp_path / "run").glob(".tmp-*"))


def test_a_run_that_failed_before_its_first_checkpoint_is_begun_anew(tmp_path: Path) -> None:
    """What it was given is mended: the same command has to work."""
    with create(tmp_path / "run") as folder:
        folder.events.write_text("{}\n")
        (folder.path / "figures.csv").write_text("an observer's")
        folder.set_state("failed", reason="the corpus is wrong")
    assert failed_in_vain(tmp_path / "run") and not can_resume(tmp_path / "run")
    with create(tmp_path / "run", name="mended") as folder:
        assert folder.config["name"] == "mended" and folder.state == "created"
        assert not folder.events.exists() and (folder.path / "figures.csv").exists()
        folder.set_state("interrupted")
    assert can_resume(tmp_path / "run")
    with pytest.raises(RunError, match="unfinished run"):  # somebody ended that one: it is gone on with
        create(tmp_path / "run")
    with RunFolder.open(tmp_path / "run") as folder:
        (folder.checkpoints / "step-2").mkdir()
        folder.set_state("failed", reason="a scorer")
    with pytest.raises(RunError, match=r"with the settings that it has.*--resume"):
        create(tmp_path / "run")


def test_files_where_folders_belong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="file"):
            create(path)
    with pytest.raises(RunError, match="not a run folder"):
        RunFolder.open(tmp_path / "file")


def test_opening_nothing_names_what_is_beside(tmp_path: Path) -> None:
    create(tmp_path / "demo-classifier-seed0").close()
    with pytest.raises(RunError, match="Did you mean 'demo-classifier-seed0'"):
        RunFolder.open(tmp_path / "demo-classifier-seed1")
    assert not (tmp_path / "demo-classifier-seed1").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", "{"),
        ("state.json", '{"schema": 1, "state": "dancing"}'),
        ("state.json", '{"schema": 99, "state": "running"}'),
        ("manifest.json", "[]"),
        ("manifest.json", "\xff"),
        ("manifest.json", '{"schema": 1, "fingerprints": null}'),
        ("manifest.json", '{"schema": 1, "fingerprints": {"loaded": 3}}'),
        ("config.yaml", "a: ["),
    ],
)
def test_damaged_files_are_named_and_the_lock_is_let_go(tmp_path: Path, name: str, content: str) -> None:
    create(tmp_path / "run").close()
    (tmp_path / "run" / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(RunError, match=name.replace(".", r"\.")):
        RunFolder.open(tmp_path / "run")
    assert not in_use(tmp_path / "run")


def test_config_that_is_not_plain_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PosixPath"):
        create(tmp_path / "run", corpus=Path("/x"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("call", range(1, 9))
def test_a_full_disk_at_any_write_of_the_creation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    calls = 0
    real = os.write

    def write(descriptor: int, data: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        try:
            create(path).close()
        except RunError as error:
            assert "No space left" in str(error) and str(path) in str(error)
            failed = True
        else:
            failed = False
    assert failed == (call <= 4)  # lock, config, manifest, state
    assert not list(path.glob(".tmp-*")) and not in_use(path)
    if failed:
        create(path).close()  # and with space again it just works


# --- locks -----------------------------------------------------------------------------------------------------------

HOLDER = """
    import os, sys, time
    from pathlib import Path
    from deattrib.runs.folder import RunFolder
    folder = RunFolder.open(Path(sys.argv[1]))
    worker = os.fork() if sys.argv[2] == "fork" else None
    if worker != 0:
        print(worker or 0, flush=True)
    time.sleep(60)
"""


def hold(path: Path, how: str) -> tuple[subprocess.Popen[str], int]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(path), how], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout is not None
    return child, int(child.stdout.readline())


@pytest.mark.parametrize("how", ["plain", "fork"])
def test_a_live_process_keeps_others_out_until_it_is_killed(tmp_path: Path, how: str) -> None:
    path = tmp_path / "run"
    create(path).close()
    child, worker = hold(path, how)
    try:
        assert in_use(path)
        with pytest.raises(RunError, match=rf"in use by process {child.pid}\b"):
            RunFolder.open(path)
        (path / "state.json").unlink()  # even a folder that looks half made
        with pytest.raises(RunError, match="in use"):
            create(path)
        child.send_signal(signal.SIGKILL)
        child.wait()
        # A worker forked by the killed run may live on: it must not keep the folder once it has come to itself.
        until = time.monotonic() + 10
        while in_use(path) and time.monotonic() < until:
            time.sleep(0.02)
        create(path).close()
    finally:
        if worker:
            os.kill(worker, signal.SIGKILL)
        child.kill()
        child.communicate()


def test_two_objects_in_one_process(tmp_path: Path) -> None:
    first = RunLock(tmp_path)
    with pytest.raises(RunError, match="in use"):
        RunLock(tmp_path)
    assert in_use(tmp_path)
    first.release()
    first.release()
    RunLock(tmp_path).release()
    assert not in_use(tmp_path)


# --- names -----------------------------------------------------------------------------------------------------------


def test_default_names_step_over_finished_runs_only(tmp_path: Path) -> None:
    def name() -> str:
        return default_output(tmp_path, name="demo", reward="classifier", seed=3).name

    assert name() == "demo-classifier-seed3"
    folder = create(tmp_path / name())
    assert name() == "demo-classifier-seed3"  # unfinished: `create` refuses it and tells how to resume
    folder.set_state("finished")
    folder.close()
    assert name() == "demo-classifier-seed3-2"
    with create(tmp_path / name()) as second:
        second.set_state("finished")
    assert name() == "demo-classifier-seed3-3"


@pytest.mark.parametrize(
    "text", ["./my scorer.py:Mine", "../../etc", "/abs/x", "", ".", "名" * 400, "a\0b\n", "-rf", "\ud800x"]
)
def test_default_names_are_one_plain_part(tmp_path: Path, text: str) -> None:
    path = default_output(tmp_path, name=text, reward=text, seed=0)
    assert path.parent == tmp_path
    assert not path.name.startswith((".", "-"))
    create(path).close()
