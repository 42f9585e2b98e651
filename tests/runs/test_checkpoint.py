"""Checkpoints are whole or not there: damage, full disks, interrupts."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runs.saved import check, names, state_of

from deattrib.errors import RunError
from deattrib.runs.checkpoint import checkpoint_step, load_checkpoint, newest_complete, save_checkpoint


def test_saved_found_loaded(tmp_path: Path) -> None:
    assert newest_complete(tmp_path / "nothing") == (None, [])
    path = save_checkpoint(tmp_path / "checkpoints", 123, state_of(123), keep=2)
    assert path == tmp_path / "checkpoints" / "step-000123"
    assert names(path) == ["MANIFEST.json", "state.json", "tensors.safetensors"]
    assert newest_complete(tmp_path / "checkpoints") == (path, [])
    check(path, 123)


def test_the_last_n_are_kept_by_number(tmp_path: Path) -> None:
    for step in (8, 9, 10, 999_999, 1_000_000):
        save_checkpoint(tmp_path, step, state_of(step), keep=3)
    assert names(tmp_path) == ["step-000010", "step-1000000", "step-999999"]
    newest, _ = newest_complete(tmp_path)
    assert newest is not None
    check(newest, 1_000_000)


def test_loaded_tensors_do_not_depend_on_the_file(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, state_of(1), keep=1)
    loaded = load_checkpoint(path)
    with (path / "tensors.safetensors").open("r+b") as file:
        file.write(b"\0" * (path / "tensors.safetensors").stat().st_size)
    assert torch.equal(loaded["weights"], torch.full((1000,), 1.0))


def damage(path: Path, how: str) -> None:
    name, _, what = how.partition(" ")
    file = path / name
    if what == "gone":
        file.unlink()
    elif what == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif what == "flipped":
        data = bytearray(file.read_bytes())
        data[-5] ^= 1
        file.write_bytes(data)
    elif what == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_text(what)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("tensors.safetensors gone", "tensors.safetensors is missing"),
        ("tensors.safetensors cut", "tensors.safetensors has"),
        ("tensors.safetensors flipped", "tensors.safetensors does not fit its SHA-256"),
        ("state.json gone", "state.json is missing"),
        ("state.json flipped", "state.json does not fit"),
        ("state.json folder", "state.json"),
        ("MANIFEST.json gone", "MANIFEST.json is missing"),
        ("MANIFEST.json cut", "MANIFEST.json is damaged"),
        ("MANIFEST.json []", "MANIFEST.json is damaged"),
        ("MANIFEST.json {}", "MANIFEST.json is damaged"),
        ('MANIFEST.json {"schema": 2}', "schema 2"),
        ('MANIFEST.json {"schema": 1, "step": 7}', "of step 7"),
        ('MANIFEST.json {"schema": 1, "step": 2, "files": {"state.json": 3}}', "MANIFEST.json is damaged"),
    ],
)
def test_damage_is_skipped_with_its_reason(tmp_path: Path, how: str, reason: str) -> None:
    if how == "MANIFEST.json cut":
        how = "MANIFEST.json {"
    for step in (1, 2):
        save_checkpoint(tmp_path, step, state_of(step), keep=5)
    damage(tmp_path / "step-000002", how)
    newest, skipped = newest_complete(tmp_path)
    assert newest == tmp_path / "step-000001"
    check(newest, 1)
    assert [path.name for path, _ in skipped] == ["step-000002"]
    assert reason in skipped[0][1]
    with pytest.raises(RunError, match="step-000002") as caught:
        load_checkpoint(tmp_path / "step-000002")
    assert reason in str(caught.value)


def test_a_manifest_cannot_point_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    path = save_checkpoint(tmp_path / "c", 1, state_of(1), keep=1)
    manifest = json.loads((path / "MANIFEST.json").read_text())
    manifest["files"]["../../secret"] = manifest["files"].pop("state.json")
    (path / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="damaged"):
        load_checkpoint(path)


def test_other_things_in_the_folder_are_not_checkpoints(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, state_of(1), keep=1)
    (tmp_path / "step-abc").mkdir()
    (tmp_path / "step-0000020x").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".tmp-step-000009-aa").mkdir()
    assert newest_complete(tmp_path) == (tmp_path / "step-000001", [])
    save_checkpoint(tmp_path, 2, state_of(2), keep=1)
    assert names(tmp_path) == ["notes.txt", "step-000002", "step-0000020x", "step-abc"]


def test_bad_ones_never_push_out_good_ones(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, step, state_of(step), keep=9)
    damage(tmp_path / "step-000003", "state.json gone")
    damage(tmp_path / "step-000004", "MANIFEST.json gone")
    newest, skipped = newest_complete(tmp_path)
    assert newest == tmp_path / "step-000002" and len(skipped) == 2
    # A run resumed from 2 saves 3 again: 4, of the course it left, goes; the good 2 stays.
    check(save_checkpoint(tmp_path, 3, state_of(3), keep=2), 3)
    assert names(tmp_path) == ["step-000002", "step-000003"]


def test_the_same_step_again(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, {"x": 1}, keep=1)
    save_checkpoint(tmp_path, 5, {"x": 2}, keep=1)
    assert names(tmp_path) == ["step-000005"]
    assert load_checkpoint(tmp_path / "step-000005") == {"x": 2}


@pytest.mark.parametrize(("step", "keep"), [(-1, 1), (0, 0)])
def test_nonsense_is_refused(tmp_path: Path, step: int, keep: int) -> None:
    with pytest.raises(RunError):
        save_checkpoint(tmp_path, step, {}, keep=keep)


# --- full disks ------------------------------------------------------------------------------------------------------


def count_calls(monkeypatch: pytest.MonkeyPatch, name: str, fail_at: int) -> list[int]:
    calls = [0]
    real = getattr(os, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == fail_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, call)
    return calls


@pytest.mark.parametrize("name", ["open", "write", "fsync", "mkdir"])
@pytest.mark.parametrize("fail_at", [1, 2, 3, 4, 5])
def test_a_full_disk_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fail_at: int) -> None:
    save_checkpoint(tmp_path, 1, state_of(1), keep=1)
    with monkeypatch.context() as patch:
        calls = count_calls(patch, name, fail_at)
        try:
            save_checkpoint(tmp_path, 2, state_of(2), keep=1)
        except RunError as error:
            assert "No space left" in str(error) and str(tmp_path) in str(error)
        else:  # there was no such call, or it was none that matters (the folder is there already, an old one stays a while)
            assert calls[0] < fail_at or name in ("mkdir", "open")
            assert newest_complete(tmp_path)[0] == tmp_path / "step-000002"
    assert not list(tmp_path.glob(".tmp-step*"))
    newest, skipped = newest_complete(tmp_path)
    assert newest is not None and skipped == []
    check(newest, checkpoint_step(newest))
    check(save_checkpoint(tmp_path, 3, state_of(3), keep=1), 3)


@contextlib.contextmanager
def small_files_only() -> Iterator[None]:
    """Files over 2000 bytes are refused; only around the write, for the test runner's output may go to a file, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("large", "file"), [({"x": torch.zeros(5000)}, "tensors.safetensors"), ({"x": "y" * 5000}, "state.json")]
)
def test_the_system_refuses_to_write_on(tmp_path: Path, large: dict[str, Any], file: str) -> None:
    save_checkpoint(tmp_path, 1, {"x": torch.zeros(3)}, keep=1)
    with small_files_only(), pytest.raises(RunError, match=file.replace(".", r"\.")):
        save_checkpoint(tmp_path, 2, large, keep=1)
    assert names(tmp_path) == ["step-000001"]
    assert newest_complete(tmp_path) == (tmp_path / "step-000001", [])


def test_an_interrupt_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 1, state_of(1), keep=1)

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, 2, state_of(2), keep=1)
    assert names(tmp_path) == ["step-000001"]
