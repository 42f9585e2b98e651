"""What several processes cannot do together is refused before the first step."""

from __future__ import annotations

from typing import Any

import pytest
from tests.models.test_ranks import Part
from tests.ppo.toy import small

from deattrib.errors import ConfigError
from deattrib.methods.base import Method
from deattrib.methods.builtin import METHODS
from deattrib.methods.npo import NPO
from deattrib.models.ranks import ALONE
from deattrib.ppo.split import check_split, splits
from deattrib.ppo.unlearner import Unlearner
from deattrib.runs.config import build_config
from deattrib.runs.pipeline import check_scorers


class Own(Method):
    """As in docs/methods.md."""

    def forget_loss(self, rows: Any) -> Any:
        batch = self.encode(rows)
        return self.token_mean(self.log_probs(batch), batch.response_mask) / 2


class Changed(NPO):
    """Says nothing of its own loss."""

    forget_loss = Own.forget_loss


class Told(Own):
    splits = True


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 2, "minibatch_size": 2}, "ppo.batch_size: 2 rows"),
        ({"minibatch_size": 2}, "ppo.minibatch_size: 2 rows"),
        ({"minibatch_size": 4}, "the last of ppo.batch_size in parts of ppo.minibatch_size: 1 rows"),
        ({"retain": {"batch_size": 1}}, "ppo.retain.batch_size: 1 rows"),
        ({"anchor": {"batch_size": 2}}, "ppo.anchor.batch_size: 2 rows"),
    ],
)
def test_every_process_needs_a_row(changes: dict[str, Any], named: str) -> None:
    settings = small(**changes)
    check_split(settings, ALONE, Unlearner)
    with pytest.raises(ConfigError, match=f"{named} cannot be split over 3 processes"):
        check_split(settings, Part(0, 3), Unlearner)


def test_what_is_not_used_needs_none() -> None:
    changes: dict[str, Any] = {"minibatch_size": 1, "anchor": {"hinge": 0.0, "kl": 0.0, "batch_size": 1}}
    with pytest.raises(ConfigError, match=r"ppo\.minibatch_size: 1 rows"):
        check_split(small(**changes), Part(0, 3), Unlearner)
    unused = small(**changes, policy_weight=0.0)
    assert unused.anchor.batch_size < 3  # it would be refused by its size, too
    check_split(unused, Part(0, 3), Unlearner)


@pytest.mark.parametrize("rollout", [{"backend": "vllm"}, {"batch_size": 2}])
def test_processes_sample_together(rollout: dict[str, Any]) -> None:
    check_split(small(rollout=rollout), ALONE, Unlearner)
    check_split(small(rollout=rollout, policy_weight=0.0), Part(0, 2), Unlearner)
    with pytest.raises(ConfigError, match="2 processes sample their rows together"):
        check_split(small(rollout=rollout), Part(0, 2), Unlearner)


def test_a_method_says_that_its_own_loss_can_be_split() -> None:
    assert all(splits(method) for method in METHODS)
    assert [splits(method) for method in (Own, Changed, Told)] == [False, False, True]
    check_split(small(), ALONE, Changed)
    with pytest.raises(ConfigError, match="Method 'npo' runs in one process only"):
        check_split(small(), Part(0, 2), Changed)


def test_a_run_that_cannot_be_split_is_refused_by_its_config_alone() -> None:
    config = build_config(data={"ppo": {"batch_size": 2}})
    check_scorers(config)
    with pytest.raises(ConfigError, match=r"ppo\.batch_size: 2 rows cannot be split over 3 processes"):
        check_scorers(config, Part(0, 3))
