"""Tokens per CPU second of sampling: ours next to transformers' `generate`, the same model, prompts and distribution.

    python -m tests.benchmarks.rollout                                       tiny model
    python -m tests.benchmarks.rollout --hidden 256 --layers 6 --vocabulary 4096
    python -m tests.benchmarks.rollout --model FOLDER --response 64          SmolLM2-135M, for one

Three cases: one answer per prompt, all of one length; four answers per prompt (theirs by `num_return_sequences`); and answers
that end by themselves, a stop token coming with probability 1/16 at every step, where only the tokens of the answers count.
One thread, one process, a call of each in turn. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

import torch
from tests.benchmarks.lockstep import spread
from tests.benchmarks.memory import load
from tests.benchmarks.tiny import PAD, add_task, make_config, task
from torch import Tensor

from deattrib.models.batch import TokenBatch
from deattrib.models.sampling import sample

COPIES = 4
ENDING = 16  # one token in so many ends an answer


class Ends(torch.nn.Module):
    """Makes the stop token likely in both sides' distributions: logits as they are, its own put where its share is 1/ENDING."""

    def __init__(self, stop: int) -> None:
        super().__init__()
        self.stop = stop

    def forward(self, logits: Tensor) -> Tensor:
        logits = logits.clone()
        logits[..., self.stop] = float("-inf")
        logits[..., self.stop] = logits.float().logsumexp(-1) - torch.tensor(ENDING - 1.0).log()
        return logits


def make_batch(prompt: int, count: int, words: int) -> TokenBatch:
    """Prompts of half the length to all of it, as questions differ."""
    rng = random.Random(0)
    prompts = [[rng.randrange(4, words) for _ in range(rng.randint(prompt // 2, prompt))] for _ in range(count)]
    return TokenBatch.from_lists(prompts, [[]] * count, PAD)


def calls_of(model: Any, given: argparse.Namespace, words: int) -> dict[str, dict[str, Callable[[], int]]]:
    """Case -> side -> a call that returns how many tokens it sampled."""
    stop = 1
    seeds = torch.Generator().manual_seed(0)

    def ours(batch: TokenBatch, copies: int, stops: tuple[int, ...], drop: bool | None) -> int:
        ids, lengths = batch.prompt_ids.repeat_interleave(copies, 0), batch.prompt_lengths.repeat_interleave(copies)
        done = sample(
            model, ids, lengths, max_new_tokens=given.response, temperature=1.0, stop_ids=stops, pad_id=PAD, generator=seeds,
            copies=copies, drop=drop,
        )  # fmt: skip
        return int(done.response_lengths.sum())

    def theirs(batch: TokenBatch, copies: int, stops: tuple[int, ...]) -> int:
        with torch.no_grad():
            done = model.generate(
                batch.prompt_ids, attention_mask=batch.prompt_mask.long(), do_sample=True, temperature=1.0, top_k=0,
                top_p=1.0, max_new_tokens=given.response, min_new_tokens=None if stops else given.response,
                num_return_sequences=copies, pad_token_id=PAD, eos_token_id=list(stops) or None,
            )  # fmt: skip
        new = done[:, batch.prompt_ids.shape[1] :]
        if not stops:
            return int(new.numel())
        ended = torch.isin(new, torch.tensor(stops))
        return int(torch.where(ended.any(1), ended.float().argmax(1) + 1, new.shape[1]).sum())

    whole, few = make_batch(given.prompt, given.batch, words), make_batch(given.prompt, given.batch // COPIES, words)
    cases: dict[str, dict[str, Callable[[], int]]] = {
        "one_answer_each": {"ours": lambda: ours(whole, 1, (), None), "generate": lambda: theirs(whole, 1, ())},
        "four_answers_each": {"ours": lambda: ours(few, COPIES, (), None), "generate": lambda: theirs(few, COPIES, ())},
    }
    if given.ending:
        head = model.get_output_embeddings()
        head.register_forward_hook(lambda _module, _inputs, logits: Ends(stop)(logits))
        return {
            "answers_that_end": {
                "ours": lambda: ours(whole, 1, (stop,), True),
                "ours_rows_kept": lambda: ours(whole, 1, (stop,), False),
                "generate": lambda: theirs(whole, 1, (stop,)),
            }
        }
    return cases


def measure(calls: dict[str, Callable[[], int]], rounds: int) -> dict[str, Any]:
    """Tokens per CPU second of each side, and how ours compare in each round."""
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            tokens = call()
            if number:  # the first round warms up
                rates[name].append(tokens / (time.process_time() - start))
    over = {
        name: spread([a / b for a, b in zip(found, rates["generate"], strict=True)], 2)
        for name, found in rates.items()
        if name != "generate"
    }
    return {"tokens_per_cpu_second": {name: spread(found, 1) for name, found in rates.items()}, "over_generate": over}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_task(parser)
    parser.add_argument("--model", help="folder of a model instead of a random one")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.model:
        model: Any = load(given.model)[0]
    else:
        from transformers import LlamaForCausalLM

        torch.manual_seed(0)
        model = LlamaForCausalLM(make_config(task(given)))
    model.eval()
    model.generation_config.eos_token_id = None  # nothing ends before its time
    result: dict[str, Any] = {}
    for ending in (False, True):
        given.ending = ending
        for name, calls in calls_of(model, given, model.config.vocab_size).items():
            result[name] = measure(calls, given.rounds)
    shape = {name: getattr(given, name) for name in ("model", "hidden", "layers", "vocabulary", "batch", "prompt", "response")}
    print(json.dumps({**shape, **result, "rounds": given.rounds, "threads": 1, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
