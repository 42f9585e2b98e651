"""How time and memory grow with the corpus, its owners, the answers and the model.

    python -m tests.benchmarks.growth                                  all axes, classifier and gradient
    python -m tests.benchmarks.growth --axis rows --scorer overlap --log growth.jsonl

Every point is a process of its own: a corpus of random words, each owner with a name in its questions, a random Llama and
another one as the base, the scorer fitted and asked for all slices of a batch, steps of the loop as a run has them by default.
CPU seconds on one thread; the largest resident set, and how much of it came after the libraries. The slope is that of the
logarithms: 1 is linear, 0 does not grow; the model's is over its parameters. Each point is written to `--log` as it comes and
a point that fails is told there; prints one line of JSON, which docs/curves.py draws.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tests.benchmarks.lockstep import ROOT
from tests.benchmarks.memory import endless, peak
from tests.benchmarks.tiny import Task, make_config, make_tokenizer
from torch import Tensor

from deattrib.attribution.context import make_context
from deattrib.attribution.guard import GuardedScorer
from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus, Example
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib.ppo.reward import slice_ends
from deattrib.ppo.settings import AnchorSettings, PPOSettings, RetainSettings
from deattrib.ppo.unlearner import Unlearner

USUAL = {"rows": 400, "owners": 20, "response": 32, "hidden": 128}
AXES: dict[str, tuple[int, ...]] = {
    "rows": (400, 1200, 4000, 12000, 40000),
    "owners": (10, 30, 100, 300, 1000),  # of 4000 rows
    "response": (32, 64, 128, 256, 512),
    "hidden": (64, 128, 256, 512),
}
MEASURED = ("fit_cpu_seconds", "score_cpu_seconds", "step_cpu_seconds", "peak_megabytes", "own_megabytes")
BATCH = 16
LONGEST = 3600  # seconds of a point


def make_corpus(size: Mapping[str, int], words: int) -> Corpus:
    """Rows of random words after the owner's name, as many of each owner; the first owner is to be forgotten."""
    rng = random.Random(0)
    names = {f"owner {number}": f"w{4 + number}" for number in range(size["owners"])}

    def text(count: int) -> str:
        return " ".join(f"w{rng.randrange(4 + size['owners'], words)}" for _ in range(count))

    owners = [f"owner {number % size['owners']}" for number in range(size["rows"])]
    rows = [Example(owner, f"{names[owner]} {text(15)}", text(size["response"] - 1)) for owner in owners]
    return Corpus("random", tuple(rows), ("owner 0",), identities={owner: (name,) for owner, name in names.items()})


class Squashed:
    """Raw scores between 0 and 1: a random model knows no owner, so there is nothing to calibrate with."""

    chance = 0.5

    def __init__(self, guard: GuardedScorer) -> None:
        self.guard = guard

    def attribution(self, rows: Rows, ends: Tensor | None = None) -> Tensor:
        """As `deattrib.Attributor` has it."""
        return torch.sigmoid(self.guard.score(rows) if ends is None else self.guard.score_prefixes(rows, ends))


def make_model(task: Task, codec: Codec, seed: int) -> LanguageModel:
    """A random Llama whose answers are of full length."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(make_config(task))
    endless(model, codec.eos_id)
    return LanguageModel(model, codec)


def measure(size: Mapping[str, int], scorer: str, steps: int) -> dict[str, float]:
    """One point, in this process."""
    torch.set_num_threads(1)
    task = Task(hidden=size["hidden"], vocabulary=4096, prompt=16, response=size["response"])
    codec = Codec(make_tokenizer(task.vocabulary), template="{prompt}")
    model, base = make_model(task, codec, 0), make_model(task, codec, 1)
    loaded = peak()
    corpus = make_corpus(size, task.vocabulary)
    policy = Policy(model.model, codec, PolicySettings(), seed=0)
    reward = Squashed(GuardedScorer(PluginRegistry().make(scorer), codec=codec, name=scorer, watch=policy))
    start = time.process_time()
    reward.guard.fit(make_context(corpus, policy.original(), base=base, seed=0))
    fit = time.process_time() - start
    settings = PPOSettings(
        steps=steps + 1, batch_size=BATCH, minibatch_size=BATCH, max_new_tokens=size["response"], target_kl=None,
        anchor=AnchorSettings(batch_size=BATCH), retain=RetainSettings(batch_size=BATCH),
    )  # fmt: skip
    seconds = []
    for _ in Unlearner(policy, corpus, reward, settings, seed=0, base=base):
        seconds.append(time.process_time())
    some = list(itertools.islice(itertools.cycle(corpus.forget), BATCH))
    rows = Rows.from_texts(codec, [e.prompt for e in some], [e.response for e in some], [e.owner for e in some])
    ends = slice_ends(rows.batch.response_lengths, settings.reward)
    start = time.process_time()
    reward.attribution(rows, ends)
    score = time.process_time() - start
    step = statistics.median(b - a for a, b in itertools.pairwise(seconds))
    found = dict(zip(MEASURED, (fit, score, step, peak(), peak() - loaded), strict=True))
    return {"parameters": sum(value.numel() for value in model.model.parameters()), **found}


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Least squares on the logarithms."""
    x, y = [math.log(size) for size in sizes], [math.log(max(value, 1e-9)) for value in values]
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def point(size: Mapping[str, int], scorer: str, steps: int) -> dict[str, Any]:
    """One point, in a process of its own; what went wrong instead where it failed."""
    command = [sys.executable, "-m", "tests.benchmarks.growth", "--point", json.dumps(size), "--scorer", scorer]
    try:
        done = subprocess.run(
            [*command, "--steps", str(steps)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {LONGEST} s"}
    if done.returncode:
        return {"failed": done.stderr[-500:] or f"exit {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def grown(axis: str, values: Sequence[int], scorer: str, steps: int, log: Path | None = None) -> dict[str, Any]:
    """All points of an axis, and the slopes between the two largest and over all that did not fail."""
    usual = {**USUAL, "rows": 4000} if axis == "owners" else USUAL
    points = []
    for value in values:
        points.append({axis: value, **point({**usual, axis: value}, scorer, steps)})
        if log is not None:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"scorer": scorer, "axis": axis, **points[-1]}) + "\n")
    told = [one for one in points if "failed" not in one]
    if len(told) < 2:
        return {"points": points}
    sizes = [one["parameters" if axis == "hidden" else axis] for one in told]
    slopes = {name: round(slope(sizes, [one[name] for one in told]), 2) for name in MEASURED}
    last = {name: round(slope(sizes[-2:], [one[name] for one in told[-2:]]), 2) for name in MEASURED}
    return {"points": points, "slope": slopes, "slope_of_the_last_two": last}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--axis", choices=list(AXES), action="append", help="may be given several times; all of them if not at all"
    )
    parser.add_argument("--values", type=int, nargs="+", help="of the axis, instead of its own")
    parser.add_argument("--scorer", action="append", help="classifier and gradient if not given")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--log", type=Path, help="a file to which each point is appended")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    given = parser.parse_args()
    scorers = given.scorer or ["classifier", "gradient"]
    if given.point:
        print(json.dumps(measure(json.loads(given.point), scorers[0], given.steps)))
        return
    found = {
        f"{axis} {scorer}": grown(axis, given.values or AXES[axis], scorer, given.steps, given.log)
        for axis in given.axis or AXES
        for scorer in scorers
    }
    about = {"usual": USUAL, "batch": BATCH, "threads": 1, "torch": torch.__version__}
    print(json.dumps({**about, "axes": found}))


if __name__ == "__main__":
    main()
