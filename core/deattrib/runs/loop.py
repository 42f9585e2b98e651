"""The loop of a run as its folder sees it: events, checkpoints, and what is saved when something goes wrong.

The method is an iterator that knows nothing of files. A step that fails leaves it as it was after the step before, so that
this can still be saved: a plugin's error never costs what was computed until then.

Of several processes all go through the same loop, and only the leader has a folder. What it does with that, and what may fail
in one of them, they do `together`: an error ends the loop in all of them at the same place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.plugins import PluginRegistry
from deattrib.models.ranks import ALONE, ProcessGroup
from deattrib.ppo.unlearner import Step, Unlearner
from deattrib.runs.checkpoint import load_newest, save_checkpoint
from deattrib.runs.config import CheckpointSettings
from deattrib.runs.events import EventLog, TimingLog, Unwritten, seconds_until
from deattrib.runs.folder import RunFolder
from deattrib.runs.listener import Listener
from deattrib.runs.manifest import check_same, differences
from deattrib.runs.signals import Interrupted, Stopping

T = TypeVar("T")


@dataclass(eq=False)
class Loop:
    """Drives a method from where the newest complete checkpoint left it.

    Attributes:
        folder: None in a process that leaves writing to the leader.
        identity: what must be the same when it is gone on with, see `deattrib.runs.identity`.
        begun: fields of the first event.
        stopping: the signals that end it.
        check: is called after every step; raises where what runs beside has failed.
        processes: the processes that carry out the run.
    """

    unlearner: Unlearner
    reward: Attributor
    folder: RunFolder | None
    settings: CheckpointSettings
    identity: Mapping[str, Any]
    begun: Mapping[str, Any]
    registry: PluginRegistry
    listener: Listener
    stopping: Stopping
    check: Callable[[], None] = lambda: None
    processes: ProcessGroup = ALONE
    saved: int | None = None  # step of the newest checkpoint
    logged: int = 0  # the last step whose events are all written
    before: float = 0.0  # seconds that steps took which an earlier process made, as the folder tells them

    def run(self) -> None:
        """To the end of the loop, a checkpoint behind it.

        Raises:
            Interrupted: a signal came; the step it came in is finished and saved.
            DeattribError: after the last whole step was saved, where there is one that was not.
        """
        unlearner = self.unlearner
        position = self._go_on()
        self.logged = unlearner.step
        with ExitStack() as stack:
            events, timings = self._mine(lambda: self._logs(stack, position))
            if self.saved is None:
                self.processes.together(lambda: events.append("stage", 0, name="unlearn", **self.begun))
                if unlearner.settings.health.on_fault == "rollback":
                    self._save(events)  # the first faults have something to go back to
            try:
                with self.stopping.postponed():
                    try:
                        while not unlearner.finished:
                            self._step(events, timings)
                        self._heed(self._asked())
                    except Exception:
                        self._rescue(events)
                        raise
            finally:
                self.reward.at_step(None)

    def _logs(self, stack: ExitStack, position: int) -> tuple[EventLog | Unwritten, TimingLog | Unwritten]:
        if self.folder is None:
            return Unwritten(), Unwritten()
        return stack.enter_context(EventLog(self.folder.events, position)), stack.enter_context(TimingLog(self.folder.timings))

    def _newest(self) -> tuple[Path | None, dict[str, Any], list[tuple[Path, str]]]:
        """The newest complete checkpoint, as the leader has it on its disk."""

        def read() -> tuple[Path | None, dict[str, Any], list[tuple[Path, str]]]:
            assert self.folder is not None
            return load_newest(self.folder.checkpoints)

        return self.processes.share(read)

    def _check_config(self, state: Mapping[str, Any]) -> None:
        if self.folder is not None and "config" in state:
            check_same(state["config"], self.folder.config)

    def _check_scale(self, state: Mapping[str, Any]) -> None:
        """Tells where scores are measured by another scale than before: what is rewarded is not the same."""
        for where, before, now in differences({"scale": state.get("scale", self._scale)}, {"scale": self._scale})[:1]:
            self.listener.warn(
                f"The reward's scale is not the one that the run began with ({where}: {before} -> {now}), though its settings "
                "are: the scorer does not fit itself to the same twice, or this is another kind of processor."
            )

    def _go_on(self) -> int:
        """Load the newest complete checkpoint; returns how long the event log was then."""
        newest, state, skipped = self._newest()
        for path, reason in skipped:
            self.listener.warn(f"checkpoint {path.name} skipped: {reason}")
        if newest is None:
            return 0
        stored = state["identity"]
        known = {key: self.identity[key] for key in stored if key in self.identity}
        check_same({key: stored[key] for key in known}, known, what="corpus or plugins")
        self.processes.together(partial(self._check_config, state))
        self._check_scale(state)
        self.unlearner.load_state_dict(state["unlearner"])
        self.saved = self.unlearner.step
        if self.folder is not None:
            self.before = seconds_until(self.folder.timings, self.unlearner.step)
        self.listener.stage("unlearn", f"continuing after step {self.unlearner.step}")
        return int(state["events"])

    def _step(self, events: EventLog | Unwritten, timings: TimingLog | Unwritten) -> None:
        unlearner, start = self.unlearner, time.perf_counter()
        masked, before = self.reward.masked, self.reward.seconds
        self.reward.at_step(unlearner.step + 1)
        step = next(unlearner)
        seconds = time.perf_counter() - start
        masked = sum(self.processes.gather(self.reward.masked - masked))
        self.processes.together(partial(self._log, step, masked, events))
        if unlearner.rollback:
            self._roll_back()
        self.processes.together(partial(self._log_end, step, seconds, self.reward.seconds - before, events, timings))
        self._tell(step)
        # What is gone back to must not hold the beginnings of a fault.
        sound = unlearner.settings.health.on_fault != "rollback" or not unlearner.health.running
        if (step.number % self.settings.every == 0 and sound) or unlearner.finished:
            self._save(events)
        self.processes.together(self.check)
        asked = self._asked()
        if asked is not None and self.saved != unlearner.step:
            self._save(events)
        self._heed(asked)

    def _log(self, step: Step, masked: int, events: EventLog | Unwritten) -> None:
        events.append("step", step.number, **_plain(step))
        for fault in step.faults:
            events.append("warning", step.number, fault=fault.name, message=fault.message)
        if masked:
            message = f"{masked} scores of {self.reward.name} were not finite and were masked"
            events.append("warning", step.number, message=message)

    def _log_end(
        self, step: Step, seconds: float, reward: float, events: EventLog | Unwritten, timings: TimingLog | Unwritten
    ) -> None:
        if self.unlearner.stopped is not None:
            events.append("stop", step.number, reason=self.unlearner.stopped)
        self.logged = self.unlearner.step
        several = {"processes": self.processes.size} if self.processes.size > 1 else {}
        timings.append("step", step.number, seconds, reward=reward, **several)

    def _asked(self) -> int | None:
        """The signal that came to any of the processes: all end with the same step."""
        return next((number for number in self.processes.gather(self.stopping.asked) if number is not None), None)

    def _heed(self, asked: int | None) -> None:
        """Raises Interrupted where a signal came."""
        if asked is not None:
            raise Interrupted(asked, f" after step {self.unlearner.step}{self._how_to_go_on}")

    @property
    def _scale(self) -> dict[str, Any]:
        """What the reward's scores are measured by, scorer by scorer."""
        return {str(number): scale for number, scale in enumerate(self.reward.scales)}

    @property
    def _how_to_go_on(self) -> str:
        return f"; go on with --resume {self.folder.path}" if self.folder is not None else ""

    def _mine(self, function: Callable[[], T]) -> T:
        """What each process does by itself, with one end for all where it fails in one."""
        results: list[T] = []
        self.processes.together(lambda: results.append(function()))
        return results[0]

    def _tell(self, step: Step) -> None:
        if self.folder is None:  # observers hear of a run once
            return
        for fault in step.faults:
            self.listener.warn(fault.message)
        self.listener.step(step.number, self.unlearner.steps, _plain(step))
        for message in self.registry.notify("step_finished", step=step.number, figures=_plain(step)):
            self.listener.warn(message)

    def _roll_back(self) -> None:
        """Back to the newest checkpoint, and end there."""
        unlearner, reason = self.unlearner, self.unlearner.stopped
        newest, state, _ = self._newest()
        if newest is None:
            unlearner.stopped = f"{reason}; there is no checkpoint to go back to"
            return
        unlearner.load_state_dict(state["unlearner"])
        unlearner.stopped = f"{reason}; taken back to step {unlearner.step}"

    def _save(self, events: EventLog | Unwritten, *, alone: bool = False) -> None:
        """`alone`: others may have gone already, and nobody waits for them."""
        unlearner = self.unlearner
        if not alone:
            self.processes.same(list(unlearner.parameters.values()))
        state = unlearner.state_dict()

        def write() -> None:
            if self.folder is None:
                return
            known = {"identity": dict(self.identity), "config": self.folder.config, "scale": self._scale}
            whole = {**known, "events": events.sync(), "unlearner": state}
            save_checkpoint(self.folder.checkpoints, unlearner.step, whole, keep=self.settings.keep)

        if alone:
            write()
        else:
            self.processes.together(write)
        self.saved = unlearner.step

    def _rescue(self, events: EventLog | Unwritten) -> None:
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
        if unlearner.policy.spread_out:  # gathering weights takes all processes, and this one is alone
            self.listener.warn(
                f"{lost} steps since the last checkpoint are lost: the weights are spread over several processes"
            )
            return
        try:
            self._save(events, alone=True)
        except Exception as second:
            self.listener.warn(f"step {unlearner.step} could not be saved after the error either: {second}")
        else:
            self.listener.warn(f"saved after step {unlearner.step}{self._how_to_go_on}")


def _plain(step: Step) -> dict[str, float]:
    return {name: float(value) for name, value in step.figures.items()}
