"""Freed memory is kept: taking the same large blocks again maps no new pages."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from deattrib.models.allocator import keep_freed_memory
taken = keep_freed_memory() if sys.argv[1] == "keep" else True
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():  # more at once than is kept without the switch
    blocks = [bytearray(8 * 2**20) for _ in range(8)]
    for block in blocks: block[::4096] = b"x" * len(block[::4096])
use(); use()
before = faults()
for _ in range(5): use()
print(int(taken), faults() - before)
"""


def faults(mode: str) -> tuple[int, int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    taken, count = done.stdout.split()
    return int(taken), int(count)


@pytest.mark.skipif(not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    taken, kept = faults("keep")
    assert taken == 1 and kept < faults("plain")[1] / 10
