"""Watching one call of foreign code: it is reported while it takes long, and ended where a limit is set.

The thread is joined when the call ends and knows nothing but texts: a thread that outlived its call could hold the last
reference to a scorer, take its tensors apart while the interpreter shuts down, and so abort a process whose work is done.
"""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any


class TookTooLongError(BaseException):
    """The call ran into its limit: the argument, in seconds.

    No `Exception`: foreign code that catches all of those must not swallow it.
    """


class Watchdog:
    """A context around one call.

    Args:
        what: the beginning of the report, "Scorer 'x' is still in score()".
        warn_after: seconds until the first report, then doubled each time; 0: none.
        limit: seconds until `TookTooLongError` is raised inside the call; None: never. By a signal, so only for calls in the
            main thread, and only once the code comes back to the interpreter; elsewhere the limit is one more report.
    """

    def __init__(self, what: str, *, warn_after: float, limit: float | None) -> None:
        self.what, self.warn_after, self.limit = what, warn_after, limit
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._expired = False
        self._start = 0.0
        self._thread: threading.Thread | None = None
        self._before: Callable[[int, FrameType | None], Any] | int | None = None
        self._armed = False

    def __enter__(self) -> Watchdog:
        self._start = time.perf_counter()
        if self.warn_after <= 0 and self.limit is None:
            return self
        main = threading.current_thread() is threading.main_thread()
        if self.limit is not None and main and hasattr(signal, "SIGALRM"):
            self._before = signal.signal(signal.SIGALRM, self._on_alarm)
            self._armed = True
        self._thread = threading.Thread(target=self._watch, daemon=True, name="deattrib-watchdog")
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            with self._lock:
                self._done.set()
        finally:  # the alarm may come in the line above
            self._done.set()
            if self._thread is not None:
                self._thread.join()
            if self._armed:
                signal.signal(signal.SIGALRM, self._before)

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._start

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if self._expired:
            if not self._done.is_set():
                raise TookTooLongError(self.limit)
        elif callable(self._before):  # somebody else's alarm
            self._before(number, frame)

    def _watch(self) -> None:
        report = self.warn_after if self.warn_after > 0 else None
        limit = self.limit
        while times := [moment for moment in (report, limit) if moment is not None]:
            if self._done.wait(max(min(times) - self.elapsed, 0.0)):
                return
            if limit is not None and self.elapsed >= limit:
                limit = None
                self._end()
            elif report is not None and self.elapsed >= report:
                report *= 2
                warnings.warn(f"{self.what} after {self.elapsed:.1f} s.", stacklevel=2)

    def _end(self) -> None:
        with self._lock:
            if self._done.is_set():
                return
            if not self._armed:
                warnings.warn(f"{self.what} after {self.elapsed:.1f} s, over its limit, and cannot be ended.", stacklevel=2)
                return
            self._expired = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
