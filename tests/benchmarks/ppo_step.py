"""CPU seconds of one PPO step: ours with a shared critic, with a critic of its own, in bfloat16, and trl's former trainer.

    python -m tests.benchmarks.ppo_step                                     ours alone
    python -m tests.benchmarks.ppo_step --peer OTHER/bin/python             against trl 1.12, installed there
    python -m tests.benchmarks.ppo_step --hidden 256 --layers 6 --vocabulary 4096 --peer OTHER/bin/python

Same model, batch, lengths, epochs and Python reward on all sides; a process each, one thread, a step of each in turn. Beside
them the floor: the step's forward and backward passes as matrix products at the rate that this processor reaches. Prints one
line of JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import sys
import time
from typing import Any

import torch
from tests.benchmarks.lockstep import in_turn, spread
from tests.benchmarks.tiny import Task, add_task, task

from deattrib.runs.dry_cost import Arithmetic
from deattrib.runs.dry_model import Sizes

OURS = "tests.benchmarks.ppo_worker"
THEIRS = "tests.benchmarks.trl_worker"


def commands(wanted: Task, peer: str | None, rounds: int, *, bf16: bool) -> dict[str, list[str]]:
    """Side -> how its process is started."""
    sides = {
        "shared_critic": wanted,
        "separate_critic": dataclasses.replace(wanted, critic="separate"),
    }
    if bf16:
        sides["shared_critic_bf16"] = dataclasses.replace(wanted, bf16=True)
    found = {name: [sys.executable, "-m", OURS, *one.arguments()] for name, one in sides.items()}
    if peer is not None:
        # One update more than are asked for: after the last one the trainer would go on to its own end.
        updates = f"--updates={rounds + 2}"
        found["trl"] = [peer, "-m", THEIRS, *wanted.arguments(), updates]
        if bf16:
            found["trl_bf16"] = [peer, "-m", THEIRS, *dataclasses.replace(wanted, bf16=True).arguments(), updates]
    return found


def matmul_rate(dtype: torch.dtype = torch.float32, size: int = 1024, seconds: float = 0.5) -> float:
    """FLOP per CPU second of square matrix products, the best of some."""
    left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    best, end = float("inf"), time.process_time() + seconds
    while time.process_time() < end:
        start = time.process_time()
        for _ in range(4):
            left @ right
        best = min(best, (time.process_time() - start) / 4)
    return 2 * size**3 / best


def step_flops(wanted: Task) -> dict[str, float]:
    """FLOP of one step's parts with a shared critic: what has to be multiplied, whoever does it."""
    width = wanted.hidden // wanted.heads
    body = wanted.layers * (4 * wanted.hidden**2 + 3 * wanted.hidden * wanted.intermediate)
    head = wanted.vocabulary * wanted.hidden
    sizes = Sizes(
        source="", exact=True, parameters=body + head, embedding=0, head=head, adapter=0, value_head=0, critic=0,
        hidden=wanted.hidden, layers=wanted.layers, heads=wanted.heads, key_value_heads=wanted.heads, head_width=width,
        intermediate=wanted.intermediate, vocabulary=wanted.vocabulary,
    )  # fmt: skip
    cost, shape = Arithmetic(sizes, 4, full=True), (wanted.batch, wanted.prompt, wanted.response)
    # Of the weights' gradients the head's is one of response positions only, which the estimate of runs does not tell apart.
    head_saved = 2 * head * wanted.batch * wanted.prompt
    return {
        "sampling": cost.decoding(*shape, batch=wanted.batch).flops,
        # The policy's pass over the rollout serves the first update too; the reference has one of its own.
        "reference": cost.forward(*shape).flops,
        "updates": (cost.trained(*shape).flops - head_saved) * wanted.epochs,
    }


def figures(answers: dict[str, list[dict[str, Any]]], wanted: Task) -> dict[str, Any]:
    """Seconds, ratios of each pair, and the floor."""
    seconds = {name: [one["cpu"] for one in found] for name, found in answers.items()}
    result: dict[str, Any] = {"cpu_seconds": {name: spread(found) for name, found in seconds.items()}}
    if "trl" in seconds:
        pairs = zip(seconds["trl"], answers["trl"], strict=True)
        collected = [total - one["garbage_collection"] for total, one in pairs]
        ours = {name: found for name, found in seconds.items() if not name.startswith("trl")}
        result["trl_over_ours"] = {
            name: spread([a / b for a, b in zip(seconds["trl"], found, strict=True)], 2) for name, found in ours.items()
        }
        result["without_trl's_garbage_collections"] = {
            name: spread([a / b for a, b in zip(collected, found, strict=True)], 2) for name, found in ours.items()
        }
    if "trl_bf16" in seconds:  # both sides in bfloat16; above, our bfloat16 is next to trl's float32
        pairs = zip(seconds["trl_bf16"], seconds["shared_critic_bf16"], strict=True)
        result["trl_bf16_over_ours"] = spread([a / b for a, b in pairs], 2)
    flops = step_flops(wanted)
    rate = matmul_rate()
    floor = sum(flops.values()) / rate
    best = statistics.median(seconds["shared_critic"])
    result["floor"] = {
        "gflop": {name: round(value / 1e9, 2) for name, value in flops.items()},
        "matmul_gflop_per_second": round(rate / 1e9, 1),
        "cpu_seconds": round(floor, 4),
        "share_reached": round(floor / best, 3),
    }
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_task(parser)
    parser.add_argument("--peer", help="interpreter of an environment with trl 1.12")
    parser.add_argument("--pairs", type=int, default=5, help="steps of each side, after one that warms up")
    parser.add_argument("--no-bf16", action="store_true", help="leave the sides in bfloat16 out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    wanted = task(given)
    answers = in_turn(commands(wanted, given.peer, given.pairs, bf16=not given.no_bf16), given.pairs)
    about = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": 1}
    print(
        json.dumps(
            {"task": dataclasses.asdict(wanted), "pairs": len(answers["shared_critic"]), **figures(answers, wanted), **about}
        )
    )


if __name__ == "__main__":
    main()
