"""The event log: whole lines, and after a resume the bytes of an undisturbed run."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from deattrib.errors import RunError
from deattrib.runs.events import EventLog, TimingLog, read_events, seconds_until


def steps(log: EventLog, numbers: range) -> None:
    for number in numbers:
        log.append("step", number, reward=0.1 * number, name="é\n\u2028")


def test_lines_and_reading(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.append("stage", 0, name="fit", kl=float("inf"))
        assert read_events(path) == [{"schema": 1, "step": 0, "kind": "stage", "name": "fit", "kl": None}]  # flushed
        steps(log, range(1, 3))
        assert log.sync() == path.stat().st_size
    assert [event["step"] for event in read_events(path)] == [0, 1, 2]
    assert path.read_bytes().count(b"\n") == 3
    with EventLog(path) as log:  # goes on at the end
        log.append("step", 3)
    assert [event["step"] for event in read_events(path)] == [0, 1, 2, 3]


def test_resume_gives_the_bytes_of_an_undisturbed_run(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    with EventLog(whole) as log:
        steps(log, range(10))
    with EventLog(broken) as log:
        steps(log, range(4))
        position = log.sync()
        steps(log, range(4, 7))
    with broken.open("ab") as file:
        file.write(b'{"schema":1,"st')
    with EventLog(broken, position=position) as log:
        steps(log, range(4, 10))
    assert broken.read_bytes() == whole.read_bytes()
    with EventLog(broken, position=0) as log:
        steps(log, range(10))
    assert broken.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("half", [b"{", b'{"schema":1,"step":1', b"x" * 200_000])
@pytest.mark.parametrize("complete", [0, 1, 3])
def test_half_a_line_is_cut_off(tmp_path: Path, half: bytes, complete: int) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        steps(log, range(complete))
    before = path.read_bytes()
    path.write_bytes(before + half)
    assert len(read_events(path)) == complete
    EventLog(path).close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("position", [1, 10, 10_000, -1])
def test_a_position_that_the_log_does_not_have(tmp_path: Path, position: int) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        steps(log, range(3))
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"events\.jsonl"):
        EventLog(path, position=position)
    assert path.read_bytes() == before


def test_events_carry_no_clock(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        for name in ("seconds", "wall_time", "timestamp", "fit_seconds", "step_duration"):
            with pytest.raises(RunError, match=name):
                log.append("step", 1, **{name: 1.0})
        log.append("step", 1, times_clipped=3, sentiment=1.0)
        with pytest.raises(RunError, match="schema"):
            log.append("step", 1, **{"schema": 2})
    with TimingLog(tmp_path / "timings.jsonl") as timings:
        timings.append("step", 1, 0.25, part="rollout")
    assert read_events(tmp_path / "timings.jsonl") == [
        {"schema": 1, "step": 1, "kind": "step", "seconds": 0.25, "part": "rollout"}
    ]


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"
    real = os.write
    log = EventLog(path)
    steps(log, range(2))
    before = path.read_bytes()
    done = False

    def write(descriptor: int, data: Any) -> int:  # takes a few bytes, then no more: what a full disk does
        nonlocal done
        if done:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = True
        return real(descriptor, bytes(data)[:7])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(RunError, match=r"events\.jsonl: No space left"):
            log.append("step", 2)
    assert path.read_bytes() == before
    log.append("step", 2)
    log.close()
    assert [event["step"] for event in read_events(path)] == [0, 1, 2]


def test_a_value_without_json_form_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    with EventLog(tmp_path / "e.jsonl") as log:
        with pytest.raises(RunError, match="'value' is a bytes"):
            log.append("step", 1, value=b"x")
        assert log.position == 0 == (tmp_path / "e.jsonl").stat().st_size
    with pytest.raises(RunError, match="closed"):
        log.append("step", 1)


@pytest.mark.parametrize("line", [b"nonsense\n", b"[1]\n", b'{"schema":2}\n', b"\xff\n", b"\n"])
def test_damage_is_named_by_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(json.dumps({"schema": 1, "step": 0, "kind": "x"}).encode() + b"\n" + line)
    with pytest.raises(RunError, match=r"e\.jsonl:2"):
        read_events(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No such file"):
        read_events(tmp_path / "e.jsonl")
    with pytest.raises(RunError, match="Cannot write"):
        EventLog(tmp_path / "no" / "e.jsonl")


def test_the_time_of_a_step_that_was_made_twice_is_its_last(tmp_path: Path) -> None:
    path = tmp_path / "timings.jsonl"
    assert seconds_until(path, 3) == 0.0
    with TimingLog(path) as timings:
        for step, seconds in ((1, 0.5), (2, 0.25), (3, 8.0), (2, 1.5), (3, 16.0)):  # killed in step 4, back to step 1
            timings.append("step", step, seconds)
        timings.append("other", 1, 100.0)
    assert [seconds_until(path, step) for step in (0, 1, 2, 3)] == [0.0, 0.5, 2.0, 18.0]
    path.write_text("{")
    assert seconds_until(path, 3) == 0.0
    path.write_text("[]\n")
    assert seconds_until(path, 3) == 0.0  # time that cannot be told is no reason not to go on
