"""A signal ends a run after its step, outside of a step at once; the second one leaves in any case."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runs.loops import Make, same, saved_steps
from tests.runs.tiny import TINY

from deattrib.runs import pipeline
from deattrib.runs.config import build_config
from deattrib.runs.signals import Interrupted, Stopping


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C as it is in the foreground: a command in the background is started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_loop_after_its_step(make: Make, number: int) -> None:
    whole, _ = make("whole")
    whole.run()
    cut, _ = make("cut", (3, lambda rows: os.kill(os.getpid(), number)))
    before = signal.getsignal(number)
    with cut.stopping, pytest.raises(Interrupted, match="after step 3; go on with --resume") as caught:
        cut.run()
    assert caught.value.number == number and signal.getsignal(number) is before
    assert saved_steps(cut) == [3]
    again, _ = make("cut")
    again.run()
    assert same(whole, again)


def test_outside_of_a_step_a_signal_ends_at_once() -> None:
    with Stopping(), pytest.raises(Interrupted, match="ended by SIGTERM") as caught:
        os.kill(os.getpid(), signal.SIGTERM)
    assert isinstance(caught.value, KeyboardInterrupt)


TWICE = """
import os, signal, sys
from deattrib.runs.signals import Stopping
signal.signal(signal.SIGINT, signal.default_int_handler)
with Stopping() as stopping, stopping.postponed():
    os.kill(os.getpid(), signal.SIGTERM)
    print(stopping.asked, flush=True)
    os.kill(os.getpid(), int(sys.argv[1]))
    print("still here", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_leaves_at_once(number: int) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", TWICE, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 128 + number and done.stdout == "15\n"
    assert "once more to leave at once" in done.stderr


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stopping() as stopping:
            os.kill(os.getpid(), signal.SIGINT)
        assert stopping.asked is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_that_is_ended_before_its_first_step_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: Any) -> None:
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(pipeline, "_carry_out", ended)
    with pytest.raises(Interrupted, match=r"^ended by SIGTERM; go on with --resume .*mine$") as caught:
        pipeline.run(build_config(data=TINY), output=tmp_path / "mine", cache=tmp_path)
    assert caught.value.number == signal.SIGTERM
