"""Who is told what happens while it happens."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]  # a line
SayStage = Callable[[str, str], None]  # a stage, and what of it


class Listener:
    """What a run tells whoever watches it; every method may be left as it is."""

    def stage(self, name: str, detail: str = "") -> None:
        """A stage begins, or goes on to something else.

        Args:
            name: "corpus", "models", "scorer", "unlearn", "evaluate", "attack".
            detail: what of it, for people; "": nothing to add.
        """

    def step(self, number: int, total: int, figures: dict[str, float]) -> None:
        """A step of the loop is done.

        Args:
            number: of the step, from 1; `total`: of all steps.
            figures: as in `events.jsonl`: "attribution" (mean over answers, in [0, 1]), "kl" (nats per token), the terms
                of the loss ("retain_loss", ...); which there are depends on method and settings.
        """

    def warn(self, message: str) -> None:
        """Something that does not stop the run: `message` is a sentence for people, without a line break at its end."""
