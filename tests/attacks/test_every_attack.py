"""What holds for every attack that is installed: it leaves its model alone, is reproducible, and its figure is on its curve."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from deattrib import PluginRegistry
from deattrib.attacks.base import Attack, AttackResult, AttackSubject
from deattrib.attacks.builtin import ATTACKS
from deattrib.models.language_model import fingerprint

SMALL: dict[str, dict[str, Any]] = {
    "relearning": {"rows": 4, "steps": (1, 3), "at": 3},
    "relearning-retain": {"rows": 4, "steps": (1, 3), "at": 1},
    "sampling": {"samples": 4, "ks": (1, 2), "rows": 6},
    "prefix": {"words": (1, 2), "at": 2},
    "int4": {"bits": (3, 4), "group": 16},
}
FIGURE_AT = {"relearning": 3, "relearning-retain": 1, "sampling": 4, "prefix": 2, "int4": 4, "paraphrase": 1}


def run(cls: type[Attack], subject: AttackSubject) -> AttackResult:
    return cls(cls.Params(**SMALL.get(cls.name, {}))).run(subject)


@pytest.mark.parametrize("cls", ATTACKS, ids=[cls.name for cls in ATTACKS])
def test_it_leaves_the_model_alone_and_gives_the_same_twice(
    cls: type[Attack], subject_of: Callable[[nn.Module], AttackSubject], tiny_model: nn.Module
) -> None:
    subject = subject_of(tiny_model)
    weights, state = fingerprint(tiny_model), torch.random.get_rng_state()
    first = run(cls, subject)
    assert fingerprint(tiny_model) == weights
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in tiny_model.parameters())
    assert not tiny_model.training
    assert run(cls, subject) == first


@pytest.mark.parametrize("cls", ATTACKS, ids=[cls.name for cls in ATTACKS])
def test_the_figure_is_on_the_curve_and_within_its_interval(cls: type[Attack], subject: AttackSubject) -> None:
    result = run(cls, subject)
    assert result.curve is not None and result.figure is not None and result.interval is not None
    xs = [x for x, _ in result.curve]
    assert xs == sorted(set(xs))
    assert math.isclose(dict(result.curve)[FIGURE_AT[cls.name]], result.figure, abs_tol=1e-12)
    assert 0 <= result.interval[0] <= result.figure <= result.interval[1] <= 1
    assert result.what.startswith(cls.what)
    for curve in result.curves.values():
        assert all(0 <= y <= 1 for _, y in curve)


def test_another_seed_samples_other_answers(subject: AttackSubject, subject_of: Callable[[nn.Module], AttackSubject]) -> None:
    prompts = [row.prompt for row in subject.forget[:4]]
    once = subject.answers(prompts, temperature=1.0)
    assert subject.answers(prompts, temperature=1.0) == once
    assert subject.answers(prompts, temperature=1.0, seed=subject.seed + 1) != once


def test_all_come_by_the_hook_and_say_what_they_are() -> None:
    registry = PluginRegistry()
    assert registry.names("attack") == sorted(cls.name for cls in ATTACKS)
    for row in registry.listing():
        if row["kind"] == "attack":
            assert row["summary"].endswith(".") and row["state"] == "ready" and row["entry_point"] == "attacks"
    for cls in ATTACKS:
        assert cls.source and cls.what.endswith(".") and cls.unit and cls.x


def test_clusters_put_the_phrasings_of_a_fact_together(subject: AttackSubject) -> None:
    """Equal values within facts: an interval over facts is wider than one that takes rows for independent."""
    rows = subject.corpus.forget
    facts = {fact: index % 2 for index, fact in enumerate(dict.fromkeys(row.fact_id for row in rows))}
    values = np.array([float(facts[row.fact_id]) for row in rows])
    interval = subject.interval(values, rows)
    assert interval is not None and interval[0] < values.mean() < interval[1]
