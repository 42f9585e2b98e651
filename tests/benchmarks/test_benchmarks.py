"""Every benchmark runs at toy size and prints what it says; nothing is timed here."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch
from tests.benchmarks import growth, lockstep, memory, memory_table, ppo_step, reward_share, rollout
from tests.benchmarks.ppo_worker import make_unlearner
from tests.benchmarks.tiny import Task, add_task, task
from torch.utils.flop_counter import FlopCounterMode

from deattrib.runs.events import TimingLog

TOY = Task(hidden=32, layers=1, heads=2, vocabulary=64, batch=4, prompt=6, response=5, epochs=2)


@pytest.fixture(autouse=True)
def threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_task_survives_the_command_line() -> None:
    parser = argparse.ArgumentParser()
    add_task(parser)
    wanted = Task(hidden=8, critic="separate", bf16=True)
    assert task(parser.parse_args(wanted.arguments())) == wanted


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_our_side_samples_to_the_full_length(critic: str) -> None:
    unlearner = make_unlearner(Task(**{**{n: getattr(TOY, n) for n in TOY.__dataclass_fields__}, "critic": critic}))
    figures = next(unlearner).figures
    assert figures["length"] == TOY.response and figures["kl"] == pytest.approx(0.0, abs=1e-4)
    assert len(unlearner.corpus.forget[0].prompt.split()) == TOY.prompt


def test_a_worker_answers_a_step_at_a_time() -> None:
    answers = lockstep.in_turn({"ours": ppo_step.commands(TOY, None, 2, bf16=False)["shared_critic"]}, 2)
    assert [set(one) >= {"cpu", "wall", "policy_loss"} for one in answers["ours"]] == [True, True]


def test_a_worker_that_dies_says_why() -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        lockstep.in_turn({"it": [sys.executable, "-c", "raise SystemExit('no such thing')"]}, 1)


def test_what_was_measured_outlives_a_worker(capsys: pytest.CaptureFixture[str]) -> None:
    """One that answers twice, after more on standard error than a pipe holds, and one that goes on."""
    code = "import sys; from tests.benchmarks.lockstep import say\nsys.stderr.write('x' * 200_000)\n"
    code += "for _ in range(2): input(); say({'cpu': 1})"
    endless = "from tests.benchmarks.lockstep import serve; serve(dict)"
    answers = lockstep.in_turn({"a": [sys.executable, "-c", endless], "b": [sys.executable, "-c", code]}, 3)
    assert {name: len(found) for name, found in answers.items()} == {"a": 1, "b": 1}
    assert "1 of 3 rounds" in capsys.readouterr().err


def test_bfloat16_is_next_to_bfloat16() -> None:
    cpu = {"shared_critic": 1.0, "shared_critic_bf16": 2.0, "trl": 3.0, "trl_bf16": 8.0}
    found = ppo_step.figures({name: [{"cpu": value, "garbage_collection": 0.0}] for name, value in cpu.items()}, Task())
    assert found["trl_bf16_over_ours"]["median"] == 4.0


def test_ratios_are_of_pairs() -> None:
    answers = {
        "shared_critic": [{"cpu": 1.0}, {"cpu": 2.0}],
        "trl": [{"cpu": 3.0, "garbage_collection": 1.0}, {"cpu": 8.0, "garbage_collection": 2.0}],
    }
    found = ppo_step.figures(answers, Task())
    assert found["trl_over_ours"]["shared_critic"] == {"median": 3.5, "least": 3.0, "most": 4.0}
    assert found["without_trl's_garbage_collections"]["shared_critic"]["median"] == 2.5
    assert 0 < found["floor"]["share_reached"] < 1


def test_the_floor_is_the_arithmetic_of_a_step() -> None:
    """Against torch's own count; it does not see the fused attention of processors, which is some percent here."""
    wanted = Task(layers=1, vocabulary=512, batch=2, epochs=2)
    unlearner = make_unlearner(wanted)
    next(unlearner)
    with FlopCounterMode(display=False) as counter:
        next(unlearner)
    assert sum(ppo_step.step_flops(wanted).values()) == pytest.approx(counter.get_total_flops(), rel=0.15)


def test_rollout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["rollout", *TOY.arguments(), "--rounds=1", "--batch=8"])
    rollout.main()
    told = json.loads(capsys.readouterr().out)
    cases = ("one_answer_each", "four_answers_each", "answers_that_end")
    assert all(told[case]["tokens_per_cpu_second"]["generate"]["median"] > 0 for case in cases)


def test_answers_end_as_often_as_it_says() -> None:
    logits = torch.randn(3, 7, 50)
    p = torch.softmax(rollout.Ends(4)(logits), -1)
    assert torch.allclose(p[..., 4], torch.full((3, 7), 1 / rollout.ENDING))


@pytest.mark.parametrize("side", ["sft", "ppo"])
def test_memory(side: str) -> None:
    given = argparse.Namespace(
        model="toy", batch=2, prompt=4, response=5, steps=1, bf16=False, checkpointing=True, anchored=True, side=side
    )
    found = memory.measure(given)
    assert found["peak"] >= found["loaded"] > 0


def test_the_table_has_the_published_sizes() -> None:
    assert [memory_table.sizes_of(shape).parameters for shape in memory_table.SHAPES] == [6_738_415_616, 68_976_648_192]
    alone = memory_table.gigabytes(memory_table.SHAPES[0], full=True, sharded=False, recompute=False)
    assert alone["weights"] == pytest.approx(13.477, abs=1e-3) and alone["optimiser"] == pytest.approx(2 * 13.477, abs=2e-2)
    shared = memory_table.gigabytes(memory_table.SHAPES[0], full=True, sharded=True, recompute=True)
    assert shared["optimiser"] == pytest.approx(alone["optimiser"] / 8) and shared["activations"] < alone["activations"] / 3


def test_the_page_has_the_table() -> None:
    page = (lockstep.ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert memory_table.table() in page


@pytest.mark.parametrize("scorer", ["classifier", "gradient", "membership"])
def test_growth(scorer: str) -> None:
    found = growth.measure({"rows": 12, "owners": 3, "response": 6, "hidden": 32}, scorer, 1)
    assert set(found) == {"parameters", *growth.MEASURED} and all(found[name] >= 0 for name in growth.MEASURED)


def test_slopes() -> None:
    assert growth.slope([1, 10, 100], [2, 200, 20000]) == pytest.approx(2.0)
    assert growth.slope([1, 10], [5, 5]) == pytest.approx(0.0)


def test_a_point_that_fails_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def point(size: dict[str, int], scorer: str, steps: int) -> dict[str, object]:
        if size["hidden"] == 64:
            return {"failed": "no memory"}
        return {"parameters": 100 * size["hidden"] ** 2, **dict.fromkeys(growth.MEASURED, float(size["hidden"] ** 2))}

    monkeypatch.setattr(growth, "point", point)
    found = growth.grown("hidden", [32, 64, 128], "classifier", 1, tmp_path / "log.jsonl")
    assert found["slope"] == dict.fromkeys(growth.MEASURED, 1.0)  # over parameters
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line.get("failed") for line in logged] == [None, "no memory", None]


def test_a_point_that_cannot_be_says_why() -> None:
    assert (
        "no-such-scorer" in growth.point({"rows": 12, "owners": 3, "response": 6, "hidden": 32}, "no-such-scorer", 1)["failed"]
    )


def test_the_rewards_share(tmp_path: Path) -> None:
    with TimingLog(tmp_path / "timings.jsonl") as log:
        for step, (seconds, reward) in enumerate([(9.0, 8.0), (2.0, 0.2), (4.0, 1.0)], start=1):
            log.append("step", step, seconds, reward=reward)
    assert reward_share.share(tmp_path) == {"steps": 2, "step_seconds": 3.0, "reward_seconds": 0.6, "share": 0.2}
    with pytest.raises(SystemExit, match="no timings of the reward"):
        (tmp_path / "timings.jsonl").write_text("")
        reward_share.share(tmp_path)


def test_a_demo_that_fails_costs_no_other(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def demo(name: str, folder: Path, steps: int) -> Path:
        if name == "broken":
            raise SystemExit("broken: why")
        folder.mkdir(exist_ok=True)
        with TimingLog(folder / "timings.jsonl") as log:
            for step in (1, 2):
                log.append("step", step, 2.0, reward=1.0)
        return folder

    monkeypatch.setattr(reward_share, "demo", demo)
    monkeypatch.setattr(sys, "argv", ["reward_share", "--demo", "broken", "overlap"])
    reward_share.main()
    told = json.loads(capsys.readouterr().out)
    assert told["failed"] == {"broken": "broken: why"} and told["above"] == ["overlap"]
