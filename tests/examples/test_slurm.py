"""What `examples/slurm.sh` starts on each node, with a scheduler of three lines."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "slurm.sh"
PROGRAMS = {
    # More names than a pipe holds: a reader that leaves after the first would end this program, and with it the job.
    "scontrol": 'test "$*" = "show hostnames node-[a-b]" || exit 1; echo node-a; exec seq 20000',
    "srun": '"$@"',
    "torchrun": 'printf "%s\\n" "threads $OMP_NUM_THREADS" "cache $DEATTRIB_CACHE" "$@"',
}


@pytest.fixture
def submitted(tmp_path: Path) -> list[str]:
    """The script's command line, submitted from a folder as SLURM would."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    for name, body in PROGRAMS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    return ["bash", str(EXAMPLE), "my run.yaml", "runs/mine"]


def started(command: list[str], folder: Path) -> list[str]:
    given = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "32", "SLURM_SUBMIT_DIR": str(folder),
    }  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "DEATTRIB"))}
    done = subprocess.run(command, cwd=folder, env={**environment, **given}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_first_job_begins_the_run_and_the_next_goes_on(submitted: list[str], tmp_path: Path) -> None:
    told = started(submitted, tmp_path)
    assert told[:2] == ["threads 8", f"cache {tmp_path}/.deattrib-cache"]
    options = dict(zip(told[2:12:2], told[3:12:2], strict=True))
    assert options == {
        "--nnodes": "2", "--nproc_per_node": "4", "--rdzv_id": "7", "--rdzv_backend": "c10d", "--rdzv_endpoint": "node-a:29500",
    }  # fmt: skip
    assert told[12:] == ["-m", "deattrib", "run", "my run.yaml", "--output", "runs/mine"]
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "state.json").write_text("{}")
    assert started(submitted, tmp_path)[12:] == ["-m", "deattrib", "run", "--resume", "runs/mine"]
