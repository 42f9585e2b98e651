"""What every command costs before it does anything: processor time above that of bare Python.

The targets are 0.2 s for `import deattrib` and 0.4 s for `deattrib --help`; the limits here are twice that, since processor
time grows where processors are shared. The best of three counts.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

MARGIN = 2.0


def processor_seconds(*arguments: str) -> float:
    """The least processor time of three runs of Python."""
    best = float("inf")
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


@pytest.mark.parametrize(("arguments", "target"), [(("-c", "import deattrib"), 0.2), (("-m", "deattrib", "--help"), 0.4)])
def test_starting_is_quick(arguments: tuple[str, ...], target: float) -> None:
    assert processor_seconds(*arguments) - processor_seconds("-c", "pass") <= MARGIN * target
