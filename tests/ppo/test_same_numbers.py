"""The same numbers again, to the last bit: of the same seed, after an interruption, and with one pass less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ppo.toy import paper, run, small
from torch import Tensor

from deattrib.runs.checkpoint import load_checkpoint, save_checkpoint

Make = Any  # the fixture of conftest.py


def test_same_seed_same_numbers_other_seed_others(make: Make) -> None:
    first, second, third = (make(small(steps=2), seed=seed) for seed in (1, 1, 2))
    torch.manual_seed(123)
    one = run(first)
    torch.manual_seed(456)
    assert one == run(second)
    assert one != run(third)
    assert all(torch.equal(value, second.policy.state()[name]) for name, value in first.policy.state().items())


RESUMED = {
    "default-disk": ("lora", "shared", small(steps=4)),
    "minibatches-memory": (
        "lora", "separate", small(steps=3, epochs=1, minibatch_size=3, anchor={"samples": 1}, retain={"dropped_words": 0.5}),
    ),
    "full-disk": ("full", "separate", small(steps=4, reward={"reference": "old"})),
    "paper-disk": ("lora", "shared", paper(steps=7, epochs=1)),
    "paper-full-memory": ("full", "shared", paper(steps=7, epochs=1)),
}  # fmt: skip


@pytest.mark.parametrize("case", RESUMED)
def test_interrupted_and_continued_equals_undisturbed_to_the_last_bit(make: Make, tmp_path: Path, case: str) -> None:
    adapter, critic, settings = RESUMED[case]
    undisturbed = make(settings, adapter=adapter, critic=critic)
    expected = run(undisturbed)
    stopped = make(settings, adapter=adapter, critic=critic)
    cut = settings.steps - 2 if settings.refresh == "batch" else 5  # paper: the pass ends in the fifth batch
    history = run(stopped, cut)
    state = stopped.state_dict()
    run(stopped)  # what is saved must not change with what goes on
    if case.endswith("disk"):
        state = load_checkpoint(save_checkpoint(tmp_path, cut, state, keep=1))
    torch.manual_seed(99)
    continued = make(settings, adapter=adapter, critic=critic, seed=0)
    continued.load_state_dict(state)
    assert continued.step == cut
    history += run(continued)
    assert history == expected
    mine, theirs = continued.policy.state(), undisturbed.policy.state()
    assert set(mine) == set(theirs)
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_one_state_can_be_loaded_twice(make: Make) -> None:
    first = make(small())
    run(first, 3)
    state = first.state_dict()
    second, third = make(small()), make(small())
    second.load_state_dict(state)
    expected = run(second)
    third.load_state_dict(state)
    assert run(third) == expected


@pytest.mark.parametrize("bf16", [False, True])
def test_the_rollouts_own_pass_serves_the_first_update_to_the_same_bits(
    make: Any, monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    def weights(again: bool) -> tuple[list[Tensor], int]:
        passes = []
        with monkeypatch.context() as patch:
            patch.setattr("deattrib.ppo.rollout.keeps_graph", lambda *_: again)
            unlearner = make(small(bf16=bf16))
            handle = unlearner.policy.register_forward_hook(lambda *_: passes.append(1))
            next(unlearner), next(unlearner)
            handle.remove()
        return [value.detach() for value in unlearner.policy.trainable().values()], len(passes)

    (kept, fewer), (plain, more) = weights(True), weights(False)
    assert fewer == more - 2  # one pass less in each of two steps
    assert all(torch.equal(a, b) for a, b in zip(kept, plain, strict=True))
