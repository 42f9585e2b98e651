"""`deattrib` and scripts as a user calls them, each call a process of its own, without five seconds of imports each time.

A server loads the libraries once and forks a process for every call, with the call's own arguments, folder, environment and
output. What decides something when Python or a library starts (PYTHONPATH, TMPDIR, OMP_NUM_THREADS) is the server's: a test of
that starts Python itself.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SERVER = """
import json, os, runpy, signal, sys, traceback
import torch, transformers, trl, peft, sklearn.linear_model
import deattrib.runs.pipeline
from deattrib import PluginRegistry
from deattrib.cli.main import main
PluginRegistry()
torch.set_num_threads(1)
for line in sys.stdin:
    call = json.loads(line)
    child = os.fork()
    if not child:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
        for number, path in enumerate((os.devnull, call["stdout"], call["stderr"])):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(call["environment"])
        os.chdir(call["folder"])
        sys.argv = list(call["arguments"])
        code = 0
        try:
            if sys.argv[0] == "deattrib":
                main()
            else:
                sys.path.insert(0, os.path.dirname(sys.argv[0]))
                runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    """Starts commands one after the other, each in a process of its own."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )

    def call(
        self, arguments: tuple[str, ...], folder: Path, environment: dict[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """What came of one command. Raises subprocess.TimeoutExpired."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with tempfile.TemporaryDirectory() as scratch:
            printed = [Path(scratch) / name for name in ("stdout", "stderr")]
            call = {"arguments": arguments, "folder": str(folder), "environment": environment}
            self.process.stdin.write(json.dumps({**call, "stdout": str(printed[0]), "stderr": str(printed[1])}) + "\n")
            child = int(self.process.stdout.readline())
            late = not select.select([self.process.stdout], [], [], timeout)[0]
            if late:
                os.killpg(child, signal.SIGKILL)
            code = int(self.process.stdout.readline())
            out, error = (path.read_text(encoding="utf-8") if path.exists() else "" for path in printed)
        if late:
            raise subprocess.TimeoutExpired(arguments, timeout, out, error)
        return subprocess.CompletedProcess(arguments, code, out, error)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@functools.cache
def _server() -> Server:
    server = Server()
    atexit.register(server.end)
    return server


def deattrib(*arguments: str, cwd: Path | None = None, timeout: float = 280, **env: str) -> subprocess.CompletedProcess[str]:
    """A command line of deattrib: its exit code (negative: of a signal) and what it printed."""
    return script("deattrib", *arguments, cwd=cwd, timeout=timeout, **env)


def script(
    path: Path | str, *arguments: str, cwd: Path | None = None, timeout: float = 280, **env: str
) -> subprocess.CompletedProcess[str]:
    """`python PATH ARGUMENTS`, likewise."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "NO_COLOR": "1", **env}
    return _server().call((str(path), *arguments), cwd or Path.cwd(), variables, timeout)
