"""One process per folder of a run, a comparison or a tuning, and per model in the making: an advisory lock that goes with the
process, however it ends.

`flock` on a file that is never removed (removing it would let two processes lock two files of one name). The kernel
lets go of it on SIGKILL too, so there is no stale lock to clear by hand; process and machine inside are only for the message.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import weakref
from pathlib import Path

from deattrib.errors import RunError
from deattrib.runs.atomic import cannot_write, write_all

LOCK_NAME = ".lock"


class InUseError(RunError):
    """Another process holds the lock.

    Attributes:
        holder: "by process 123", its machine behind it where that is another one; "" where it does not say.
    """

    def __init__(self, message: str, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


class RunLock:
    """Holds the lock of the folder from creation to `release` or to the end of the process.

    Args:
        name: of the file, where more than one lock is in the folder.
        what: the folder is, for the message.

    Raises:
        InUseError: another process (or another object in this one) holds it. RunError: the file cannot be written or locked.
    """

    def __init__(self, folder: Path, *, name: str = LOCK_NAME, what: str = "run") -> None:
        self.path = folder / name
        self._descriptor: int | None = None
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            write_all(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise InUseError(
                    f"The {what} folder {folder} is in use{holder and ' '}{holder}. Wait until that {what} has ended, or "
                    "choose another folder with --output.",
                    holder,
                ) from error
            raise cannot_write(self.path, error) from error
        self._descriptor = descriptor
        _held.add(self)

    def release(self) -> None:
        """Lets the next process in; more than once does no harm."""
        descriptor, self._descriptor = self._descriptor, None
        _held.discard(self)
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.release()


def in_use(folder: Path, *, name: str = LOCK_NAME) -> bool:
    """Whether a live process holds the lock of the folder."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _holder(descriptor: int) -> str:
    with contextlib.suppress(OSError):
        number, _, host = os.pread(descriptor, 512, 0).decode("utf-8", "replace").strip().partition(" ")
        if number.isdecimal():
            return f"by process {number}" + (f" of {host}" if host not in ("", socket.gethostname()) else "")
    return ""


_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _forget_after_fork() -> None:
    # A forked worker shares the lock: without this, one that outlives a killed run would keep the folder locked.
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget_after_fork)
