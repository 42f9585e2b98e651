"""Folders in which something is written before it is renamed into its place, and the end of those whose writer was killed.

A process that is killed outright cleans nothing up. So the name says whose folder it is, machine and process, and whoever
stages something next removes what processes of this machine that no longer run have left. Folders of other machines that
share the cache, and of running processes, are left alone.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import time
from pathlib import Path

NAMED = re.compile(r"\.tmp-(?P<pid>\d+)-(?P<host>.*)-[^-]+")
LONGEST = 24 * 3600.0  # seconds after which a staging folder without an owner in its name is no longer in use


def staging_folder(parent: Path) -> Path:
    """A new folder in `parent`, with this process in its name; removes what dead ones have left there."""
    remove_stale(parent)
    return Path(tempfile.mkdtemp(prefix=f".tmp-{os.getpid()}-{_host()}-", dir=parent))


def remove_stale(parent: Path) -> None:
    """Remove staging folders in `parent` that nobody will rename any more."""
    for path in parent.glob(".tmp-*"):
        if path.is_dir() and _stale(path):
            shutil.rmtree(path, ignore_errors=True)


def _stale(path: Path) -> bool:
    named = NAMED.fullmatch(path.name)
    if named is None:  # by a version that did not name them
        try:
            return time.time() - path.stat().st_mtime > LONGEST
        except OSError:  # gone in the meantime
            return False
    return named["host"] == _host() and not _runs(int(named["pid"]))


def _runs(pid: int) -> bool:
    """Whether there is such a process; True where that cannot be asked without harm."""
    if os.name != "posix":  # elsewhere signal 0 ends the process
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())
