"""Two processes, started as a user would start them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def torchrun(module: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`torchrun --nproc_per_node 2 -m MODULE ARGUMENTS` with this process' import path and one thread each."""
    known = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command = [*launcher, "-m", module, *arguments]
    return subprocess.run(command, env={**known, **environment}, cwd=cwd, capture_output=True, text=True, timeout=280)
