"""What the processes of `test_several.py` do: the same loops as one process, each from the start and from a saved state.

python -m torch.distributed.run --nproc_per_node 2 -m tests.ppo.several FOLDER CASE...
"""

from __future__ import annotations

import copy
import functools
import sys
from pathlib import Path
from typing import Any

import torch
from tests.ppo.toy import EvenTokens, small
from torch import nn

from deattrib.attribution.plugins import PluginRegistry
from deattrib.corpus.fictitious import fictitious_corpus
from deattrib.corpus.types import Corpus
from deattrib.errors import DeattribError
from deattrib.methods.choose import choose_method
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.policy import Policy
from deattrib.models.ranks import ALONE, ProcessGroup, open_processes
from deattrib.models.recipes import PolicySettings, ScratchSettings
from deattrib.models.scratch import make_model, make_tokenizer
from deattrib.ppo.unlearner import Unlearner

STEPS = 3
STALE = {"refresh": "epoch", "reward": {"slices": 3, "reference": "old", "kl_estimator": "full"}}
# Batches of 5, 3 and 3 rows, which two processes cannot share evenly.
LOOPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lora": ({}, {}),
    "minibatches": ({}, {"minibatch_size": 3, "epochs": 1, "anchor": {"batch_size": 3, "samples": 1}}),
    "tokens": ({}, {"reward": {"granularity": "tokens", "reference": "base"}, "anchor": {"batch_size": 4, "weighted": True}}),
    "separate": ({"critic": "separate"}, {"retain": {"batch_size": 3, "dropped_words": 0.5}}),
    "paper": ({}, STALE),
    "groups": ({}, {"batch_size": 6, "minibatch_size": 6, "estimator": "grpo", "rollout": {"samples": 3}}),
    "full": ({"adapter": "full"}, {}),
    "fsdp": ({"sharding": "fsdp"}, {}),
    "fsdp-paper": ({"sharding": "fsdp"}, STALE),
    "fsdp-full": ({"sharding": "fsdp", "adapter": "full", "critic": "separate"}, {}),
}
METHODS = ("ga", "graddiff", "ga-kl", "npo", "simnpo", "rmu", "scrub", "flat", "retain-ft", "name-swap", "dpo-idk", "anchored")
CASES = (*LOOPS, *METHODS)
QUICK = ("lora", "fsdp", "name-swap")  # the others take a minute together


def shares(rows: Any) -> torch.Tensor:
    """Token scores for the weighted anchored term."""
    return (rows.batch.response_ids % 3).float() * rows.batch.response_mask


@functools.cache
def material() -> tuple[Corpus, Codec, nn.Module, nn.Module]:
    """Corpus, codec, and two models of some thousand parameters with random weights."""
    corpus = fictitious_corpus(seed=3, owners=6, facts=6, forget=2, shadow_owners=6, holdout_owners=1, world_repeats=1)
    tokenizer = make_tokenizer([f"{row.prompt}\n{row.response}" for row in corpus.train], 400)
    sizes = ScratchSettings(hidden=32, layers=2, heads=2, intermediate=64, vocabulary=400, context=128)
    model = make_model(sizes, tokenizer, seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0 if parameter.dim() > 1 else 1.0)
    return corpus, Codec(tokenizer), model, make_model(sizes, tokenizer, seed=1)


def build(case: str, processes: ProcessGroup = ALONE) -> Unlearner:
    """The loop of a case."""
    corpus, codec, model, below = material()
    base = LanguageModel(copy.deepcopy(below), codec, name="base")
    kind, changes = LOOPS.get(case, ({}, {}))
    chosen = choose_method(case if case in METHODS else "dareu", PluginRegistry())
    settings = chosen.cls.settle(small(**changes), chosen.params)
    policy = Policy(copy.deepcopy(model), codec, PolicySettings(rank=4, alpha=8.0, **kind), seed=0)
    if processes.size > 1 and policy.settings.sharding == "fsdp":
        policy.spread(remembers=settings.keeps_old)
    return chosen.cls(
        policy, corpus, EvenTokens(), settings, seed=0, base=base, token_scores=shares, params=chosen.params,
        processes=processes,
    )  # fmt: skip


def go(unlearner: Unlearner, until: int = STEPS) -> list[dict[str, float]]:
    """The figures of the steps up to one."""
    return [dict(next(unlearner).figures) for _ in range(until - unlearner.step)]


def main(folder: Path, *cases: str) -> None:
    with open_processes() as processes:
        for case in cases:
            unlearner = build(case, processes)
            history = go(unlearner, 1)
            halfway = unlearner.state_dict()
            history += go(unlearner)
            final = unlearner.state_dict()
            resumed = build(case, processes)
            resumed.load_state_dict(torch.load(folder / f"{case}.one.pt", weights_only=True)["halfway"])
            later = go(resumed)
            again = build(case, processes)
            again.load_state_dict(halfway)
            same = go(again) == history[1:]  # as many processes as before: to the bit
            spread = unlearner.policy.spread_out
            unlearner.policy.gather()
            answers = unlearner.policy.language_model().generate(
                [row.prompt for row in unlearner.corpus.forget[:4]], max_new_tokens=8
            )
            if processes.leads:
                result = {
                    "history": history,
                    "halfway": halfway,
                    "final": final,
                    "later": later,
                    "same": same,
                    "answers": answers,
                }
                torch.save(result | {"spread": spread}, folder / f"{case}.two.pt")
        refusals(folder, processes)


def refusals(folder: Path, processes: ProcessGroup) -> None:
    """What is refused says so in every process, and an error in one of them is an error in all."""
    said: list[str] = []
    broken = build("lora", processes)

    def attribution(rows: Any, ends: Any = None) -> Any:
        raise ValueError("no attribution today")

    if processes.rank == 1:
        broken.source.attribution = attribution  # type: ignore[method-assign]
    for attempt in (
        lambda: go(broken),
        lambda: processes.share(lambda: 1 // 0),
        lambda: processes.together(lambda: 1 // processes.rank),
    ):
        try:
            attempt()  # type: ignore[no-untyped-call]
        except (DeattribError, ValueError, ZeroDivisionError) as error:
            said.append(f"{type(error).__name__}: {error}")
    step, whole = broken.step, broken.whole
    if processes.rank == 1:
        next(iter(broken.parameters.values())).data.add_(1)
    try:
        processes.same(list(broken.parameters.values()))
    except DeattribError as error:
        said.append(str(error))
    torch.save({"said": said, "step": step, "whole": whole}, folder / f"refusals.{processes.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
