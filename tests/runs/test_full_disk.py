"""A disk that is full from any one write of a run on: a clear error, nothing half, and with space again the same numbers."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.runs.tiny import TINY

from deattrib.errors import DeattribError, RunError
from deattrib.runs.checkpoint import newest_complete
from deattrib.runs.config import build_config
from deattrib.runs.folder import read_state
from deattrib.runs.pipeline import run

EVERY = int(os.environ.get("DEATTRIB_DISK_EVERY", "1"))  # of the writes, tried one after another
FEWEST = 25  # lock, config, manifest twice, states, events and timings of 6 steps, 3 checkpoints, outcome


@contextmanager
def full_from(call: int, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """From the call-th `os.write` below the folder on nothing can be written or flushed there."""
    write, fsync, count = os.write, os.fsync, [0]

    def inside(descriptor: int) -> bool:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_relative_to(folder)

    def refuse() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full_write(descriptor: int, data: Any) -> int:
        if inside(descriptor):
            count[0] += 1
            if count[0] >= call:
                refuse()
        return write(descriptor, data)

    def full_fsync(descriptor: int) -> None:
        if count[0] >= call and inside(descriptor):
            refuse()
        fsync(descriptor)

    with patch.context() as patched:
        patched.setattr(os, "write", full_write)
        patched.setattr(os, "fsync", full_fsync)
        yield count


def finish(folder: Path, cache: Path) -> None:
    try:
        read_state(folder)
    except RunError:
        run(build_config(data=TINY), output=folder, cache=cache)
    else:
        run(None, resume=folder, cache=cache)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks /proc which file a descriptor is")
def test_a_disk_that_is_full_at_any_write_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, whole = tmp_path / "cache", tmp_path / "whole"
    with full_from(10**9, whole, monkeypatch) as count:
        run(build_config(data=TINY), output=whole, cache=cache)
    writes = count[0]
    assert writes >= FEWEST
    for call in range(1, writes + 1, EVERY):
        folder = tmp_path / f"full-{call}"
        with full_from(call, folder, monkeypatch), pytest.raises(DeattribError) as caught:
            run(build_config(data=TINY), output=folder, cache=cache)
        assert "No space left" in str(caught.value) and str(folder) in str(caught.value), call
        assert not list(folder.rglob(".tmp-*")), call
        newest, skipped = newest_complete(folder / "checkpoints")
        assert not skipped and (newest is not None or call < writes / 2), call
        finish(folder, cache)
        for name in ("events.jsonl", "adapter/adapter_model.safetensors"):
            assert (folder / name).read_bytes() == (whole / name).read_bytes(), (call, name)
