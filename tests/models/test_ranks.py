"""How a batch is shared out, and what the one process that is alone makes of it: nothing."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from deattrib.errors import ConfigError
from deattrib.models.language_model import Codec
from deattrib.models.launched import taken_from_environment
from deattrib.models.policy import Policy
from deattrib.models.ranks import ALONE, ProcessGroup, open_processes
from deattrib.models.recipes import PolicySettings


class Part(ProcessGroup):
    """One of several, as far as sharing out goes."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 4, 7, 15])
def test_every_row_belongs_to_one_process_and_parts_are_even(size: int, count: int) -> None:
    parts = [list(Part(rank, size).mine(range(count))) for rank in range(size)]
    assert [row for part in parts for row in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("size", [1, 2, 3])
def test_uniform_numbers_are_those_of_the_whole_batch(size: int) -> None:
    generators = [torch.Generator().manual_seed(4) for _ in range(size)]
    expected = torch.Generator().manual_seed(4)
    for _ in range(3):
        parts = [Part(rank, size).uniform(7, generator) for rank, generator in enumerate(generators)]
        assert torch.equal(torch.cat(parts), torch.rand(7, generator=expected))


def test_alone_everything_is_what_it_was() -> None:
    value, parameter = torch.randn(3, 2), nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    ALONE.add_up([parameter])
    ALONE.same([parameter])
    assert ALONE.joined(value) is value and ALONE.sum(value) is value and torch.equal(parameter.grad, torch.ones(2))
    assert ALONE.gather("a") == ALONE.together(lambda: "a") == ["a"] and ALONE.share(lambda: "a") == "a"
    assert ALONE.figures({"a": 1.0}) == {"a": 1.0} and ALONE.leads and not ALONE.any(False)
    with ALONE.leader_first(), open_processes() as processes:
        assert processes is ALONE


def test_a_launchers_variables_are_taken_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "x", "TORCHELASTIC_RUN_ID": "y"}
    for name, value in {**ours, "GROUP_OF_USERS": "z"}.items():
        monkeypatch.setenv(name, value)
    assert taken_from_environment() == ours
    assert "RANK" not in os.environ and os.environ["GROUP_OF_USERS"] == "z"


@pytest.mark.parametrize(
    ("adapter", "critic", "remembers", "what"),
    [("lora", "separate", False, "policy.critic: separate"), ("full", "shared", True, "an old policy")],
)
def test_what_cannot_be_spread_is_refused(
    tiny_llama: nn.Module, tiny_codec: Codec, adapter: str, critic: str, remembers: bool, what: str
) -> None:
    policy = Policy(tiny_llama, tiny_codec, PolicySettings(adapter=adapter, critic=critic), seed=0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"policy.sharding: fsdp with adapter: {adapter} has no place for {what}"):
        policy.spread(remembers=remembers)
    assert not policy.spread_out
