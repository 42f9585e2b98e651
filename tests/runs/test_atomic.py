"""A file is the old one or the new one, whatever fails."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from deattrib.errors import RunError
from deattrib.runs.atomic import atomic_write_bytes, atomic_write_json, atomic_write_text


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic_write_text(path, "é\r\n")
    assert path.read_bytes() == b"\xc3\xa9\r\n"
    atomic_write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        atomic_write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def failing(name: str, number: int) -> Callable[..., object]:
    real = getattr(os, name)

    def fail(*args: object, **kwargs: object) -> object:
        raise OSError(number, os.strerror(number))

    fail.real = real  # type: ignore[attr-defined]
    return fail


@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failure_at_any_call_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    path = tmp_path / "a.txt"
    atomic_write_text(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(name, number))
        with pytest.raises(RunError) as caught:
            atomic_write_text(path, "new")
    assert str(path) in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            atomic_write_text(tmp_path / "a", "x")
    assert list(tmp_path.iterdir()) == []


def test_short_writes_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:3]))
        atomic_write_bytes(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


@contextlib.contextmanager
def small_files_only() -> Iterator[None]:
    """The kernel itself refuses to write files over 1000 bytes: a full disk without filling one.

    Only around the write: the test runner's own output may go to a file, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_the_system_cuts_short(tmp_path: Path) -> None:
    path = tmp_path / "a"
    atomic_write_bytes(path, b"old")
    with small_files_only(), pytest.raises(RunError, match="File too large"):
        atomic_write_bytes(path, b"x" * 5000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_in_the_way_and_missing_folders(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for path in (tmp_path / "a", tmp_path / "no" / "b"):
        with pytest.raises(RunError, match=str(path)):
            atomic_write_text(path, "x")
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


def test_json_is_strict_and_keeps_its_order(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {
        "z": math.nan,
        "a": [math.inf, -math.inf, 1.5, None, True, (1, 2)],
        "é": "\u2028",
        3: np.float32(0.5),
        "n": np.int64(7),
    }
    atomic_write_json(path, value)

    def refuse(word: str) -> object:
        raise AssertionError(word)

    read = json.loads(path.read_bytes().decode("utf-8"), parse_constant=refuse)
    assert read == {"z": None, "a": [None, None, 1.5, None, True, [1, 2]], "é": "\u2028", "3": 0.5, "n": 7}
    assert list(read) == ["z", "a", "é", "3", "n"]


def test_json_carries_half_a_surrogate_pair(tmp_path: Path) -> None:
    atomic_write_json(tmp_path / "a.json", {"x": "\ud800"})
    assert json.loads((tmp_path / "a.json").read_bytes().decode("utf-8")) == {"x": "\ud800"}
    with pytest.raises(RunError, match="surrogate"):
        atomic_write_text(tmp_path / "a.txt", "\ud800")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": {"b": [0, b"x"]}}, "'a.b[1]' is a bytes"),
        ({"a": Path("/x")}, "'a' is a PosixPath"),
        ({"a": {None: 1}}, "key None under 'a'"),
        ({True: 1}, "key True"),
        ({1: "x", "1": "y"}, "as text and as a number"),
        ({"a": np.zeros(2)}, "'a' is a ndarray"),
        ({"a": 10**5000}, "digits"),
    ],
)
def test_what_has_no_json_form_is_named(tmp_path: Path, value: object, words: str) -> None:
    with pytest.raises(RunError) as caught:
        atomic_write_json(tmp_path / "a.json", value)
    assert words in str(caught.value)
    assert "a.json" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
