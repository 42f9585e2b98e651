"""A process that is killed while it saves a checkpoint, at any operation and at any time, leaves a whole one behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runs.saved import check, names, state_of

from deattrib.runs.checkpoint import checkpoint_step, newest_complete, save_checkpoint

# A server that has torch loaded and forks a writer per line of its input. "at N": the writer kills itself just before its
# Nth operation on the file system (Python announces each to its audit hooks); "loop": it saves until it is killed.
SERVER = """
    import os, signal, sys
    from pathlib import Path
    import torch
    import safetensors.torch
    from deattrib.runs.checkpoint import save_checkpoint

    torch.set_num_threads(1)
    OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}

    def state_of(step):
        weights = torch.full((1000,), float(step))
        return {"step": step, "weights": weights, "optimizer": {"state": {0: {"m": torch.tensor(step)}}}}

    def kill_at(number):
        calls = 0
        def hook(event, arguments):
            nonlocal calls
            if event in OPERATIONS:
                calls += 1
                if calls == number:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)

    for line in sys.stdin:
        folder, how, first, number = line.rstrip("\\n").split("\\t")
        child = os.fork()
        if child == 0:
            if how == "at":
                kill_at(int(number))
                save_checkpoint(Path(folder), int(first), state_of(int(first)), keep=1)
                os._exit(0)
            step = int(first)
            while True:
                save_checkpoint(Path(folder), step, state_of(step), keep=2)
                step += 1
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def start(self, folder: Path, how: str, first: int, number: int = 0) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{folder}\t{how}\t{first}\t{number}\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.process.kill()
    server.process.communicate()


@pytest.mark.parametrize("step", [2, 1])  # 1: the step that is there already is saved again
def test_killed_before_every_single_operation(tmp_path: Path, server: Server, step: int) -> None:
    for number in range(1, 200):
        folder = tmp_path / str(number)
        save_checkpoint(folder, 1, state_of(1), keep=1)
        server.start(folder, "at", step, number)
        killed = server.answer() == -signal.SIGKILL
        newest, skipped = newest_complete(folder)
        assert newest is not None, number
        assert skipped == [], number
        check(newest, checkpoint_step(newest))
        check(save_checkpoint(folder, 3, state_of(3), keep=1), 3)  # and the next process goes on as if nothing had been
        assert names(folder) == ["step-000003"]
        if not killed:
            assert number > 10  # several files, several folders: there were that many operations to die at
            return
    raise AssertionError("the writer never came to its end")


def test_killed_at_random_instants(tmp_path: Path, server: Server) -> None:
    chance = random.Random(0)
    last = 0
    begin = time.monotonic()  # how long a process takes to its first checkpoint: longer where every line is counted
    child = server.start(tmp_path, "loop", 1)
    while newest_complete(tmp_path)[0] is None:
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    assert server.answer() == -signal.SIGKILL
    longest = 0.1 + 2 * (time.monotonic() - begin)
    for _ in range(25):
        child = server.start(tmp_path, "loop", last + 1)
        time.sleep(chance.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        assert server.answer() == -signal.SIGKILL
        newest, skipped = newest_complete(tmp_path)
        assert skipped == []
        if newest is not None:
            assert checkpoint_step(newest) >= last
            last = checkpoint_step(newest)
            check(newest, last)
    assert last > 5
