"""Memory that was freed stays with the process while a small model is trained on a processor.

The C library hands large blocks back to the system as soon as they are free and takes fresh ones for the next operation, whose
pages then have to be mapped and zeroed again: some percent of a small model's step. Here they are kept; what is computed is the
same to the bit. Only glibc knows these switches (mallopt(3)); elsewhere nothing happens.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of malloc.h
_LARGE = 2**30  # bytes; blocks up to this size come from the heap
_AHEAD = 64 * 2**20  # bytes by which the heap grows at least


def keep_freed_memory() -> bool:
    """Switch it on for this process, for good. Returns whether the C library took it."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl, for one
        return False
    wanted = ((_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _LARGE), (_TOP_PAD, _AHEAD))
    taken = [bool(mallopt(name, value)) for name, value in wanted]
    return all(taken)
