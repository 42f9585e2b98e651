"""What a scorer must not leave behind: each is named, and what can be put back is."""

from __future__ import annotations

import os
import random
import signal
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.attribution.wall import guarded, numpy_words, scorer_that
from torch import nn

from deattrib import Rows, ScorerError
from deattrib.models.language_model import Codec


# -- what is left behind -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("leak", "state", "what"),
    [
        (lambda: torch.rand(1), torch.get_rng_state, "torch's global random state"),
        (lambda: torch.manual_seed(5), torch.get_rng_state, "torch's global random state"),
        (random.random, lambda: random.getstate(), "Python's random state"),
        (lambda: np.random.rand(), numpy_words, "numpy's global random state"),
    ],
)
def test_leaked_randomness_is_put_back_and_named(
    codec: Codec, rows: Rows, leak: Callable[[], Any], state: Callable[[], Any], what: str
) -> None:
    before = np.array(_flat(state()))

    def act(_: Rows) -> Any:
        leak()
        return [0.0] * 3

    with pytest.raises(ScorerError, match=what):
        guarded(scorer_that(act), codec).score(rows)
    assert (before == np.array(_flat(state()))).all()


def _flat(value: Any) -> list[Any]:
    return list(value[1]) if isinstance(value, tuple) else value.tolist()


def leave_nowhere() -> None:
    """Go to a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)


@pytest.mark.parametrize(
    ("leak", "read", "what"),
    [
        (lambda: torch.set_grad_enabled(True), torch.is_grad_enabled, "grad mode"),
        (lambda: torch.use_deterministic_algorithms(True), torch.are_deterministic_algorithms_enabled, "deterministic mode"),
        (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype, "default dtype"),
        (lambda: torch.set_num_threads(torch.get_num_threads() + 1), torch.get_num_threads, "number of threads"),
        (lambda: torch.set_default_device("meta"), torch.get_default_device, "default device"),
        (lambda: torch.set_float32_matmul_precision("medium"), torch.get_float32_matmul_precision, "matmul precision"),
        (lambda: os.chdir("/"), os.getcwd, "working directory"),
        (lambda: leave_nowhere(), os.getcwd, "working directory"),
        (lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN), lambda: signal.getsignal(signal.SIGTERM), "handler of SIGTERM"),
    ],
)
def test_changed_modes_of_torch_are_put_back_and_named(
    codec: Codec, rows: Rows, leak: Callable[[], Any], read: Callable[[], Any], what: str
) -> None:
    before = read()

    def act(_: Rows) -> Any:
        leak()
        return [0.0] * 3

    with pytest.raises(ScorerError, match=what):
        guarded(scorer_that(act), codec).score(rows)
    assert read() == before


@pytest.mark.parametrize("part", ["prompt_ids", "prompt_lengths", "response_ids", "response_lengths"])
def test_rows_that_were_written_to_are_put_back_and_named(codec: Codec, rows: Rows, part: str) -> None:
    before = getattr(rows.batch, part).clone()

    def act(rows: Rows) -> Any:
        getattr(rows.batch, part).data.fill_(7)  # .data passes by the version counter
        return [0.0] * 3

    with pytest.raises(ScorerError, match=rf"wrote into rows\.batch\.{part}"):
        guarded(scorer_that(act), codec).score(rows)
    assert torch.equal(getattr(rows.batch, part), before)


def test_replaced_rows_are_named(codec: Codec, rows: Rows) -> None:
    def act(rows: Rows) -> Any:
        object.__setattr__(rows, "owners", ("x",) * 3)
        return [0.0] * 3

    with pytest.raises(ScorerError, match="read-only"):
        guarded(scorer_that(act), codec).score(rows)


def _write_data(policy: nn.Sequential) -> None:
    next(policy.parameters()).data.mul_(2)


def _step(policy: nn.Sequential) -> None:
    with torch.no_grad():
        policy.get_parameter("0.bias").add_(1)


def _swap_storage(policy: nn.Sequential) -> None:
    policy[0].weight.data = torch.zeros(300, 4)


def _run_in_train_mode(policy: nn.Sequential) -> None:
    policy(torch.ones(2, 4))  # moves the running mean of the batch norm


def _add_module(policy: nn.Sequential) -> None:
    policy.add_module("adapter", nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_write_data, r"past autograd"),
        (_step, r"'0\.bias' written to"),
        (_swap_storage, r"'0\.weight' written to"),
        (_add_module, r"not the same as before \(adapter"),
    ],
)
def test_a_changed_policy_is_named_and_remembered(
    codec: Codec, rows: Rows, policy: nn.Sequential, change: Callable[[nn.Sequential], None], what: str
) -> None:
    def act(_: Rows) -> Any:
        change(policy)
        return [0.0] * 3

    state = torch.get_rng_state()
    guard = guarded(scorer_that(act), codec, watch=policy)
    with pytest.raises(ScorerError, match=f"touched the policy: .*{what}"):
        guard.score(rows)
    assert guard.policy_changed
    assert torch.equal(torch.get_rng_state(), state)


def test_buffers_of_the_policy_are_watched_too(codec: Codec, rows: Rows, policy: nn.Sequential) -> None:
    def act(_: Rows) -> Any:
        _run_in_train_mode(policy)
        return [0.0] * 3

    with pytest.raises(ScorerError, match=r"'1\.num_batches_tracked' written to"):
        guarded(scorer_that(act), codec, watch=policy).score(rows)


def test_train_mode_is_put_back_and_named(codec: Codec, rows: Rows, policy: nn.Sequential) -> None:
    policy.train()
    policy[1].eval()

    def act(_: Rows) -> Any:
        policy.eval()
        return [0.0] * 3

    guard = guarded(scorer_that(act), codec, watch=policy)
    with pytest.raises(ScorerError, match="train/eval mode of"):
        guard.score(rows)
    assert [part.training for part in policy.modules()] == [True, True, False, True]
    assert not guard.policy_changed


def test_requires_grad_is_put_back_and_named(codec: Codec, rows: Rows, policy: nn.Sequential) -> None:
    policy[0].weight.requires_grad_(False)

    def act(_: Rows) -> Any:
        policy.requires_grad_(True)
        policy[0].bias.requires_grad_(False)
        return [0.0] * 3

    with pytest.raises(ScorerError, match=r"requires_grad of '0\.weight', '0\.bias' changed"):
        guarded(scorer_that(act), codec, watch=policy).score(rows)
    assert [p.requires_grad for p in policy.parameters()] == [False, True, True, True]


def test_a_gradient_left_on_the_policy_is_removed_and_named(codec: Codec, rows: Rows, policy: nn.Sequential) -> None:
    policy.eval()

    def act(_: Rows) -> Any:
        with torch.enable_grad():
            policy(torch.ones(2, 4)).sum().backward()
        return [0.0] * 3

    with pytest.raises(ScorerError, match="the gradient of"):
        guarded(scorer_that(act), codec, watch=policy).score(rows)
    assert all(p.grad is None for p in policy.parameters())


def test_hooks_left_on_the_policy_are_named(codec: Codec, rows: Rows, policy: nn.Sequential) -> None:
    def act(_: Rows) -> Any:
        policy[0].register_forward_hook(lambda *_: None)
        return [0.0] * 3

    with pytest.raises(ScorerError, match="hooks were left on or taken from '0'"):
        guarded(scorer_that(act), codec, watch=policy).score(rows)


def test_a_scorer_that_raises_and_leaks_is_cleaned_up_after(codec: Codec, rows: Rows, policy: nn.Sequential) -> None:
    state = torch.get_rng_state()

    def act(_: Rows) -> Any:
        torch.rand(3)
        policy.eval()
        raise OSError("gone")

    with pytest.raises(ScorerError, match=r"OSError: gone.*random state.*train/eval"):
        guarded(scorer_that(act), codec, watch=policy).score(rows)
    assert policy.training and torch.equal(torch.get_rng_state(), state)


def test_a_scorer_may_use_gradients_inside_and_own_generators(codec: Codec, rows: Rows, policy: nn.Sequential) -> None:
    policy.eval()

    def act(rows: Rows) -> Any:
        generator = torch.Generator().manual_seed(1)
        with torch.enable_grad():
            noise = torch.rand(len(rows), 4, generator=generator).requires_grad_()
            return torch.autograd.grad(policy(noise).sum(), noise)[0].sum(1)

    assert not torch.is_inference_mode_enabled()
    assert guarded(scorer_that(act), codec, watch=policy).score(rows).isfinite().all()


def test_scores_are_computed_without_gradients_and_the_callers_mode_stays(codec: Codec, rows: Rows) -> None:
    modes = []

    def act(_: Rows) -> Any:
        modes.append(torch.is_grad_enabled())
        return [0.0] * 3

    guarded(scorer_that(act), codec).score(rows)
    assert modes == [False] and torch.is_grad_enabled()
