"""Who is told what happens while it happens."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]  # a line
SayStage = Callable[[str, str], None]  # a stage, and what of it


class Listener:
    """What a run tells whoever watches it; every method may be left as it is."""

    def stage(self, name: str, detail: str = "") -> None:
        """A stage begins."""

    def step(self, number: int, total: int, figures: dict[str, float]) -> None:
        """A step of the loop is done."""

    def warn(self, message: str) -> None:
        """Something that does not stop the run."""
