"""SIGTERM and Ctrl-C during a run: a step is finished and saved first; outside a step the run ends at once.

The first signal ends the run in good order, with exit code 128 + its number (130 for Ctrl-C, 143 for SIGTERM), as shells do
for a process that a signal ended. A second one leaves at once with the same code: what is on disk is whole at any instant.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

HEARD = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run was asked to end by a signal; a `KeyboardInterrupt`, whichever signal it was.

    Attributes:
        number: of the signal. after: how the message goes on, as " after step 3".

    Args:
        number, after: the same.
    """

    def __init__(self, number: int, after: str = "") -> None:
        super().__init__(f"ended by {signal.Signals(number).name}{after}")
        self.number, self.after = number, after


def exit_code(error: KeyboardInterrupt) -> int:
    """128 + the signal's number; Ctrl-C where the signal is not known."""
    return 128 + int(getattr(error, "number", signal.SIGINT))


class Stopping:
    """Listens to the signals while its context is open; does nothing outside of the main thread.

    A signal that the process was started to ignore (as shells do with Ctrl-C for commands in the background) stays ignored.

    Args:
        patient: leave the second signal to whoever sent it: a launcher of several processes passes on what its own group has
            had already, and ends what takes too long by itself.

    Attributes:
        asked: number of the signal that came during a step; None: none yet.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.patient = patient
        self.asked: int | None = None
        self._busy = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            for number in HEARD:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Inside, the first signal is only noted in `asked`."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.asked is not None:
            if self.patient:
                return
            os._exit(128 + number)
        self.asked = number
        if not self._busy:
            raise Interrupted(number)
        # Not print: the signal may have come in the middle of one.
        if not self.patient:
            os.write(2, b"\nfinishing and saving this step; once more to leave at once\n")
