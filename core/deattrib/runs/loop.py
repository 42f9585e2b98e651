"""The loop of a run as its folder sees it: events, checkpoints, and what is saved when something goes wrong.

The method is an iterator that knows nothing of files. A step that fails leaves it as it was after the step before, so that
this can still be saved: a plugin's error never costs what was computed until then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.plugins import PluginRegistry
from deattrib.ppo.unlearner import Step, Unlearner
from deattrib.runs.checkpoint import load_newest, save_checkpoint
from deattrib.runs.config import CheckpointSettings
from deattrib.runs.events import EventLog, TimingLog
from deattrib.runs.folder import RunFolder
from deattrib.runs.manifest import check_same
from deattrib.runs.signals import Interrupted, Stopping


class Told(Protocol):
    """Who is told; `deattrib.runs.pipeline.Listener`, for one."""

    def stage(self, name: str, detail: str = "") -> None: ...

    def step(self, number: int, total: int, figures: dict[str, float]) -> None: ...

    def warn(self, message: str) -> None: ...


@dataclass(eq=False)
class Loop:
    """Drives a method from where the newest complete checkpoint left it.

    Attributes:
        identity: what must be the same when it is gone on with, see `deattrib.runs.identity`.
        begun: fields of the first event.
        stopping: the signals that end it.
        check: is called after every step; raises where what runs beside has failed.
    """

    unlearner: Unlearner
    reward: Attributor
    folder: RunFolder
    settings: CheckpointSettings
    identity: Mapping[str, Any]
    begun: Mapping[str, Any]
    registry: PluginRegistry
    listener: Told
    stopping: Stopping
    check: Callable[[], None] = lambda: None
    saved: int | None = None  # step of the newest checkpoint
    logged: int = 0  # the last step whose events are all written

    def run(self) -> None:
        """To the end of the loop, a checkpoint behind it.

        Raises:
            Interrupted: a signal came; the step it came in is finished and saved.
            DeattribError: after the last whole step was saved, where there is one that was not.
        """
        unlearner = self.unlearner
        position = self._go_on()
        self.logged = unlearner.step
        with EventLog(self.folder.events, position) as events, TimingLog(self.folder.timings) as timings:
            if self.saved is None:
                events.append("stage", 0, name="unlearn", **self.begun)
                if unlearner.settings.health.on_fault == "rollback":
                    self._save(events)  # the first faults have something to go back to
            try:
                with self.stopping.postponed():
                    try:
                        while not unlearner.finished:
                            self._step(events, timings)
                        self._heed()
                    except Exception:
                        self._rescue(events)
                        raise
            finally:
                self.reward.at_step(None)

    def _go_on(self) -> int:
        """Load the newest complete checkpoint; returns how long the event log was then."""
        newest, state, skipped = load_newest(self.folder.checkpoints)
        for path, reason in skipped:
            self.listener.warn(f"checkpoint {path.name} skipped: {reason}")
        if newest is None:
            return 0
        stored = state["identity"]
        known = {key: self.identity[key] for key in stored if key in self.identity}
        check_same({key: stored[key] for key in known}, known, what="corpus or plugins")
        if "config" in state:
            check_same(state["config"], self.folder.config)
        self.unlearner.load_state_dict(state["unlearner"])
        self.saved = self.unlearner.step
        self.listener.stage("unlearn", f"continuing after step {self.unlearner.step}")
        return int(state["events"])

    def _step(self, events: EventLog, timings: TimingLog) -> None:
        unlearner, start = self.unlearner, time.perf_counter()
        masked, asked = self.reward.masked, self.reward.seconds
        self.reward.at_step(unlearner.step + 1)
        step = next(unlearner)
        seconds = time.perf_counter() - start
        events.append("step", step.number, **_plain(step))
        for fault in step.faults:
            events.append("warning", step.number, fault=fault.name, message=fault.message)
        if masked := self.reward.masked - masked:
            message = f"{masked} scores of {self.reward.name} were not finite and were masked"
            events.append("warning", step.number, message=message)
        if unlearner.rollback:
            self._roll_back()
        if unlearner.stopped is not None:
            events.append("stop", step.number, reason=unlearner.stopped)
        self.logged = unlearner.step
        timings.append("step", step.number, seconds, reward=self.reward.seconds - asked)
        self._tell(step)
        # What is gone back to must not hold the beginnings of a fault.
        sound = unlearner.settings.health.on_fault != "rollback" or not unlearner.health.running
        if (step.number % self.settings.every == 0 and sound) or unlearner.finished:
            self._save(events)
        self.check()
        if self.stopping.asked is not None and self.saved != unlearner.step:
            self._save(events)
        self._heed()

    def _heed(self) -> None:
        """Raises Interrupted where a signal came."""
        if self.stopping.asked is not None:
            after = f" after step {self.unlearner.step}; go on with --resume {self.folder.path}"
            raise Interrupted(self.stopping.asked, after)

    def _tell(self, step: Step) -> None:
        for fault in step.faults:
            self.listener.warn(fault.message)
        self.listener.step(step.number, self.unlearner.steps, _plain(step))
        for message in self.registry.notify("step_finished", step=step.number, figures=_plain(step)):
            self.listener.warn(message)

    def _roll_back(self) -> None:
        """Back to the newest checkpoint, and end there."""
        unlearner, reason = self.unlearner, self.unlearner.stopped
        newest, state, _ = load_newest(self.folder.checkpoints)
        if newest is None:
            unlearner.stopped = f"{reason}; there is no checkpoint to go back to"
            return
        unlearner.load_state_dict(state["unlearner"])
        unlearner.stopped = f"{reason}; taken back to step {unlearner.step}"

    def _save(self, events: EventLog) -> None:
        state = {
            "identity": dict(self.identity),
            "config": self.folder.config,
            "events": events.sync(),
            "unlearner": self.unlearner.state_dict(),
        }
        save_checkpoint(self.folder.checkpoints, self.unlearner.step, state, keep=self.settings.keep)
        self.saved = self.unlearner.step

    def _rescue(self, events: EventLog) -> None:
        """Save the last whole step before the error goes on; never hides that error behind one of its own."""
        unlearner = self.unlearner
        lost = unlearner.step - (self.saved or 0)
        untold = self.logged != unlearner.step
        if self.reward.policy_changed or not unlearner.whole or untold:
            why = "the last one could not be written to the event log" if untold else "the weights were changed in mid-step"
            if lost:
                self.listener.warn(f"{lost} steps since the last checkpoint are lost: {why}")
            return
        if not lost:
            return
        try:
            self._save(events)
        except Exception as second:
            self.listener.warn(f"step {unlearner.step} could not be saved after the error either: {second}")
        else:
            self.listener.warn(f"saved after step {unlearner.step}; go on with --resume {self.folder.path}")


def _plain(step: Step) -> dict[str, float]:
    return {name: float(value) for name, value in step.figures.items()}
