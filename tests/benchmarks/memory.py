"""Peak memory of LoRA training: an epoch of fine-tuning next to steps of PPO on the same model and rows per batch.

    python -m tests.benchmarks.memory --model FOLDER                  the rows are random words; SmolLM2-135M takes minutes
    python -m tests.benchmarks.memory --model FOLDER --checkpointing

A process each, and both with the libraries that fine-tuning reads. On a processor the figure is the largest resident set
(libraries included, which is why it is given beside what was resident once the model was loaded); on CUDA what torch
allocated. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
from typing import Any

import torch
from tests.benchmarks.lockstep import ROOT
from tests.benchmarks.ppo_worker import EvenTokens
from tests.benchmarks.tiny import Task, make_config, make_tokenizer

from deattrib.corpus.types import Corpus, Example
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings, TrainingSettings
from deattrib.models.training import fine_tune
from deattrib.ppo.settings import AnchorSettings, PPOSettings, RetainSettings, RewardSettings
from deattrib.ppo.unlearner import Unlearner

MEGABYTE = 2**20


def peak() -> float:
    """Megabytes at most so far: resident, or allocated on the GPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / MEGABYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def load(path: str) -> tuple[torch.nn.Module, Any]:
    """Model and tokenizer of a folder; "toy" is one of a megabyte."""
    if path == "toy":
        from transformers import LlamaForCausalLM

        sizes = Task(hidden=32, layers=2, vocabulary=300)
        return LlamaForCausalLM(make_config(sizes)), make_tokenizer(300)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), AutoTokenizer.from_pretrained(path)


def make_rows(tokenizer: Any, given: argparse.Namespace) -> Corpus:
    """Rows of exactly so many tokens as far as words allow, twice the batch of each owner."""
    rng = random.Random(0)
    words = [word for word in (tokenizer.decode([i]) for i in rng.sample(range(4, len(tokenizer)), 200)) if word.strip()]

    def text(tokens: int) -> str:
        ids = tokenizer(" ".join(rng.choices(words, k=tokens)), add_special_tokens=False)["input_ids"][: tokens - 1]
        return str(tokenizer.decode(ids))

    rows = [Example(owner, text(given.prompt), text(given.response)) for owner in "ab" for _ in range(2 * given.batch)]
    return Corpus("random", tuple(rows), ("a",))


def endless(model: Any, end: int) -> None:
    """Make the stop token unlikely wherever no gradient is taken: answers of the full length, as the memory is measured for."""

    def unlikely(_module: Any, _inputs: Any, logits: torch.Tensor) -> None:
        if not torch.is_grad_enabled():
            logits[..., end] = -1e4

    model.get_output_embeddings().register_forward_hook(unlikely)


def measure(given: argparse.Namespace) -> dict[str, float]:
    """One side, in this process."""
    import trl.trainer.sft_trainer  # noqa: F401 - fine-tuning reads it, and what it weighs is no training's doing

    model, tokenizer = load(given.model)
    codec = Codec(tokenizer, template="{prompt}\n")
    corpus = make_rows(tokenizer, given)
    loaded = peak()
    if given.side == "sft":
        recipe = TrainingSettings(steps=given.steps, batch_size=given.batch, lora_rank=16, bf16=given.bf16)
        fine_tune(model, codec, corpus.train, recipe, seed=0)
        return {"loaded": loaded, "peak": peak()}
    endless(model, codec.eos_id)
    anchor = AnchorSettings(towards="base", batch_size=given.batch) if given.anchored else AnchorSettings(hinge=0, kl=0)
    settings = PPOSettings(
        steps=given.steps, batch_size=given.batch, minibatch_size=given.batch, epochs=1, max_new_tokens=given.response,
        target_kl=None, bf16=given.bf16, reward=RewardSettings(reference="original"),
        retain=RetainSettings(batch_size=given.batch), anchor=anchor,
    )  # fmt: skip
    policy = Policy(model, codec, PolicySettings(checkpointing=given.checkpointing), seed=0)
    base = LanguageModel(load(given.model)[0], codec) if given.anchored else None  # a model of its own, as in most runs
    for _ in Unlearner(policy, corpus, EvenTokens(), settings, seed=0, base=base):
        pass
    return {"loaded": loaded, "peak": peak()}


def main() -> None:
    """Both sides, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="toy", help='folder of a model, or "toy"')
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=24, help="tokens")
    parser.add_argument("--response", type=int, default=48, help="tokens")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--checkpointing", action="store_true", help="policy.checkpointing of the PPO side")
    parser.add_argument("--anchored", action="store_true", help="with the anchored term, towards the base model")
    parser.add_argument("--side", choices=["sft", "ppo"])
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measure(given)))
        return
    sides: dict[str, dict[str, float]] = {}
    for side in ("sft", "ppo"):
        command = [sys.executable, "-m", "tests.benchmarks.memory", *sys.argv[1:], "--side", side]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{side}, after {sides}: {done.stderr[-2000:]}")
        sides[side] = {name: round(value, 1) for name, value in json.loads(done.stdout.splitlines()[-1]).items()}
    ratio = sides["ppo"]["peak"] / sides["sft"]["peak"]
    above = {side: one["peak"] - one["loaded"] for side, one in sides.items()}
    told = {
        "megabytes": sides,
        "ppo_over_sft": round(ratio, 3),
        "above_the_loaded_model": round(above["ppo"] / above["sft"], 3),
    }
    print(json.dumps({**vars(given), **told}))


if __name__ == "__main__":
    main()
