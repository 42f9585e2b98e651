"""The loop of a run: what is saved when something goes wrong in it, and that going on from there leaves no trace."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runs.loops import Make, same, saved_steps

from deattrib.attribution.calibration import Calibration
from deattrib.attribution.parts import Part
from deattrib.attribution.scorer import Rows
from deattrib.attribution.settings import GuardSettings
from deattrib.errors import ModelError, RunError, ScorerError
from deattrib.runs.checkpoint import load_checkpoint, newest_complete
from deattrib.runs.events import EventLog, read_events


def scaled(part: Part, high: float) -> Part:
    return dataclasses.replace(part, calibration=Calibration((4, 8), (0.0, 0.0), (1.0, high), {}))


def test_another_scale_than_the_run_began_with_is_told(make: Make) -> None:
    loop, _ = make("run", every=2, steps=2)
    assert loop.reward.scales == [None]
    loop.reward._parts[0] = scaled(loop.reward._parts[0], 0.5)
    loop.run()
    for scale, told in ((0.5, False), (0.25, True)):
        loop, heard = make("run", every=2, steps=4)
        loop.reward._parts[0] = scaled(loop.reward._parts[0], scale)
        loop._go_on()
        assert any("scale.0.high" in warning and "0.5" in warning and "0.25" in warning for warning in heard.warnings) is told


def fail(_: Rows) -> Any:
    raise ValueError("no")


def test_a_scorer_that_fails_costs_nothing_that_was_computed(make: Make) -> None:
    """No checkpoint was due; the last whole step is saved before the error goes on, and going on from it is undisturbed."""
    whole, _ = make("whole")
    whole.run()
    cut, heard = make("cut", (4, fail))
    with pytest.raises(ScorerError, match=r"'even' .* at step 4: it raised ValueError: no"):
        cut.run()
    assert saved_steps(cut) == [3] and "saved after step 3" in heard.warnings[0]
    again, _ = make("cut")
    again.run()
    assert again.unlearner.step == 5 and same(whole, again)


def test_what_a_scorer_wrote_to_the_policy_is_not_saved(make: Make) -> None:
    loop, heard = make("run", every=2)

    def write(_: Rows) -> None:
        with torch.no_grad():
            loop.unlearner.policy.value_head.bias.add_(1)

    scorer: Any = loop.reward._parts[0].guard.scorer
    scorer.at = (4, write)
    with pytest.raises(ScorerError, match="it touched the policy"):
        loop.run()
    assert saved_steps(loop) == [2] and "1 steps since the last checkpoint are lost" in heard.warnings[0]


def test_a_failure_between_two_updates_is_not_saved(make: Make) -> None:
    loop, heard = make("run", every=2, epochs=2)
    learn, calls = loop.unlearner._differentiate, 0

    def second_of_step_four(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return learn(*arguments) if calls != 8 else 1 / 0

    loop.unlearner._differentiate = second_of_step_four  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        loop.run()
    assert saved_steps(loop) == [2] and "are lost" in heard.warnings[0]


def test_a_full_disk_while_saving_after_an_error_does_not_hide_the_error(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, heard = make("run", (3, fail))
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ScorerError, match="ValueError: no"):
        loop.run()
    assert "could not be saved after the error either" in heard.warnings[0] and "No space left" in heard.warnings[0]


def test_what_fails_beside_the_loop_is_noticed_at_the_next_step(make: Make) -> None:
    loop, _ = make("run")

    def check() -> None:
        if loop.unlearner.step == 2:
            raise ModelError("Making the oracle failed")

    loop.check = check
    with pytest.raises(ModelError, match="oracle"):
        loop.run()
    assert loop.unlearner.step == 2 and saved_steps(loop) == [2]


def test_masked_scores_are_in_the_event_log(make: Make) -> None:
    loop, _ = make("run", (2, lambda rows: [float("nan"), *[0.5] * (len(rows) - 1)]),
                   guard=GuardSettings(on_nonfinite="mask", most_masked=0.3))  # fmt: skip
    with pytest.warns(UserWarning, match="1 of 5 scores are not finite"):
        loop.run()
    told = [event for event in read_events(loop.folder.events) if event["kind"] == "warning"]
    assert [(event["step"], event["message"]) for event in told] == [(2, "1 scores of even were not finite and were masked")]


@pytest.mark.parametrize(("on_fault", "last", "saved"), [("note", 5, [2, 4, 5]), ("stop", 3, [2, 3]), ("rollback", 0, [0])])
def test_faults_are_told_and_answered_as_set(make: Make, on_fault: str, last: int, saved: list[int]) -> None:
    health = {"on_fault": on_fault, "entropy": 100.0, "patience": 3}
    loop, heard = make("run", every=2, health=health)
    loop.run()
    events = read_events(loop.folder.events)
    told = [event for event in events if event["kind"] == "warning"]
    assert [(event["step"], event["fault"]) for event in told] == [(3, "entropy")] and heard.warnings == [told[0]["message"]]
    assert loop.unlearner.step == last and saved_steps(loop) == saved
    stops = [event["reason"] for event in events if event["kind"] == "stop"]
    assert len(stops) == (on_fault != "note") and all("entropy is" in reason for reason in stops)
    if on_fault == "rollback":
        assert stops[0].endswith("taken back to step 0")  # the checkpoint of step 2 would have held the beginning of the fault
        newest, _ = newest_complete(loop.folder.checkpoints)
        assert newest is not None
        kept = load_checkpoint(newest)["unlearner"]
        assert kept["stopped"] == stops[0]
        policy = loop.unlearner.policy.state()
        assert all(torch.equal(policy[name], value) for name, value in kept["policy"].items())
        again, _ = make("run", every=2, health=health)
        before = again.folder.events.read_bytes()
        again.run()  # nothing left to do
        assert again.unlearner.finished and again.folder.events.read_bytes() == before


def test_without_a_checkpoint_there_is_nothing_to_go_back_to_and_the_run_says_so(make: Make) -> None:
    folders: list[Path] = []
    health = {"on_fault": "rollback", "entropy": 100.0, "patience": 1}
    loop, _ = make("run", (1, lambda rows: shutil.rmtree(folders[0])), health=health)
    folders.append(loop.folder.checkpoints)
    loop.run()
    assert loop.unlearner.step == 1 and saved_steps(loop) == [1]
    assert str(loop.unlearner.stopped).endswith("there is no checkpoint to go back to")


def test_a_step_whose_events_could_not_be_written_is_not_saved(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = make("whole")
    whole.run()
    cut, heard = make("cut", every=2)
    append = EventLog.append

    def full(log: EventLog, kind: str, step: int, **fields: Any) -> None:
        if step == 3:
            raise OSError("no space left")
        append(log, kind, step, **fields)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(EventLog, "append", full)
        cut.run()
    assert saved_steps(cut) == [2]
    assert heard.warnings == ["1 steps since the last checkpoint are lost: the last one could not be written to the event log"]
    again, _ = make("cut", every=2)
    again.run()
    assert same(whole, again)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"corpus": "y", "plugins": {"d": "1"}}, "corpus: 'x' -> 'y'"),
        ({"corpus": "x", "plugins": {"d": "2"}}, "plugins.d: '1' -> '2'"),
    ],
)
def test_another_corpus_or_plugin_is_refused_with_the_difference(make: Make, change: Any, shown: str) -> None:
    make("run", every=2)[0].run()
    with pytest.raises(RunError, match="other corpus or plugins") as caught:
        make("run", identity=change)[0].run()
    assert shown in str(caught.value)
