"""How time and memory grow with the corpus, its owners, the answers and the model.

    python -m tests.benchmarks.growth                                  all axes, classifier and gradient
    python -m tests.benchmarks.growth --axis rows --scorer overlap --plot growth.svg

Every point is a process of its own: a corpus of random words, a random Llama, the scorer fitted and asked for all slices of a
batch, steps of the loop with distillation. CPU seconds on one thread, the largest resident set. The slope is that of the
logarithms: 1 is linear, 0 does not grow. Prints one line of JSON.
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
from tests.benchmarks.memory import peak
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
from deattrib.ppo.settings import AnchorSettings, PPOSettings, RewardSettings
from deattrib.ppo.unlearner import Unlearner

USUAL = {"rows": 400, "owners": 20, "response": 32, "hidden": 128}
AXES: dict[str, tuple[int, ...]] = {
    "rows": (400, 1200, 4000, 12000, 40000),
    "owners": (10, 30, 100, 300, 1000),  # of 4000 rows
    "response": (32, 64, 128, 256, 512),
    "hidden": (64, 128, 256, 512),
}
MEASURED = ("fit_cpu_seconds", "score_cpu_seconds", "step_cpu_seconds", "peak_megabytes")
BATCH = 16


def make_corpus(size: Mapping[str, int], words: int) -> Corpus:
    """Rows of random words, as many of each owner; the first owner is to be forgotten."""
    rng = random.Random(0)

    def text(count: int) -> str:
        return " ".join(f"w{rng.randrange(4, words)}" for _ in range(count))

    rows = [Example(f"owner {number % size['owners']}", text(16), text(size["response"] - 1)) for number in range(size["rows"])]
    return Corpus("random", tuple(rows), ("owner 0",))


class Squashed:
    """Raw scores between 0 and 1: a random model knows no owner, so there is nothing to calibrate with."""

    chance = 0.5

    def __init__(self, guard: GuardedScorer) -> None:
        self.guard = guard

    def attribution(self, rows: Rows, ends: Tensor | None = None) -> Tensor:
        """As `deattrib.Attributor` has it."""
        return torch.sigmoid(self.guard.score(rows) if ends is None else self.guard.score_prefixes(rows, ends))


def measure(size: Mapping[str, int], scorer: str, steps: int) -> dict[str, float]:
    """One point, in this process."""
    from transformers import LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = Task(hidden=size["hidden"], prompt=16, response=size["response"])
    tokenizer = make_tokenizer(task.vocabulary)
    codec = Codec(tokenizer, template="{prompt}")
    model = LlamaForCausalLM(make_config(task))
    corpus = make_corpus(size, task.vocabulary)
    reward = Squashed(GuardedScorer(PluginRegistry().make(scorer), codec=codec, name=scorer, watch=model))
    start = time.process_time()
    reward.guard.fit(make_context(corpus, LanguageModel(model, codec), seed=0))
    fit = time.process_time() - start
    settings = PPOSettings(
        steps=steps + 1, batch_size=BATCH, minibatch_size=BATCH, max_new_tokens=size["response"], target_kl=None,
        reward=RewardSettings(reference="original"), anchor=AnchorSettings(hinge=0, kl=0),
    )  # fmt: skip
    policy = Policy(model, codec, PolicySettings(), seed=0)
    reward.guard.watch = policy
    seconds = []
    for _ in Unlearner(policy, corpus, reward, settings, seed=0):
        seconds.append(time.process_time())
    some = corpus.forget[:BATCH]
    rows = Rows.from_texts(codec, [e.prompt for e in some], [e.response for e in some], [e.owner for e in some])
    ends = slice_ends(rows.batch.response_lengths, settings.reward)
    start = time.process_time()
    reward.attribution(rows, ends)
    score = time.process_time() - start
    step = statistics.median(b - a for a, b in itertools.pairwise(seconds))
    return dict(zip(MEASURED, (fit, score, step, peak()), strict=True))


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Least squares on the logarithms."""
    x, y = [math.log(size) for size in sizes], [math.log(max(value, 1e-9)) for value in values]
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def grown(axis: str, values: Sequence[int], scorer: str, steps: int) -> dict[str, Any]:
    """All points of an axis, and the slopes between the two largest and over all."""
    usual = {**USUAL, "rows": 4000} if axis == "owners" else USUAL
    points = []
    for value in values:
        size = {**usual, axis: value}
        command = [sys.executable, "-m", "tests.benchmarks.growth", "--point", json.dumps(size), "--scorer", scorer]
        done = subprocess.run([*command, "--steps", str(steps)], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{axis} {value}, {scorer}:\n{done.stderr[-2000:]}")
        points.append({axis: value, **json.loads(done.stdout.splitlines()[-1])})
    slopes = {name: round(slope(values, [point[name] for point in points]), 2) for name in MEASURED}
    last = {name: round(slope(values[-2:], [point[name] for point in points[-2:]]), 2) for name in MEASURED}
    return {"points": points, "slope": slopes, "slope_of_the_last_two": last}


def plot(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """A panel per axis, both scales logarithmic: seconds of fit, score and step."""
    colours = dict(zip(MEASURED[:3], ("#4c72b0", "#dd8452", "#55a868"), strict=True))
    parts, width = [], 260
    for column, (title, one) in enumerate(found.items()):
        axis = title.split(" ")[0]
        xs = [math.log(point[axis]) for point in one["points"]]
        ys = [math.log(max(point[name], 1e-9)) for point in one["points"] for name in colours]
        low, high = min(ys), max(max(ys), min(ys) + 1e-9)
        parts.append(f'<text x="{column * width + 20}" y="14" font-size="12">{title}</text>')
        for name, colour in colours.items():
            dots = " ".join(
                f"{column * width + 20 + 210 * (x - xs[0]) / max(xs[-1] - xs[0], 1e-9):.1f},"
                f"{190 - 160 * (math.log(max(point[name], 1e-9)) - low) / (high - low):.1f}"
                for x, point in zip(xs, one["points"], strict=True)
            )
            parts.append(f'<polyline points="{dots}" fill="none" stroke="{colour}"/>')
    legend = "".join(
        f'<text x="{20 + 170 * i}" y="215" font-size="12" fill="{c}">{n}</text>' for i, (n, c) in enumerate(colours.items())
    )
    size = max(width * len(found), 540)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="225">{"".join(parts)}{legend}</svg>', "utf-8"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--axis", choices=list(AXES), action="append", help="may be given several times; all of them if not at all"
    )
    parser.add_argument("--values", type=int, nargs="+", help="of the axis, instead of its own")
    parser.add_argument("--scorer", action="append", help="classifier and gradient if not given")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--point")
    given = parser.parse_args()
    scorers = given.scorer or ["classifier", "gradient"]
    if given.point:
        print(json.dumps(measure(json.loads(given.point), scorers[0], given.steps)))
        return
    found = {
        f"{axis} {scorer}": grown(axis, given.values or AXES[axis], scorer, given.steps)
        for axis in given.axis or AXES
        for scorer in scorers
    }
    if given.plot:
        plot(found, given.plot)
    print(json.dumps({"usual": USUAL, "batch": BATCH, "threads": 1, "torch": torch.__version__, "axes": found}))


if __name__ == "__main__":
    main()
