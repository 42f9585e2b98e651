"""The controls carry no information about the owner, and are the same numbers every time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.attribution.wall import context_with

import deattrib_scorers.controls as controls
from deattrib import ConfigError, Example, GuardedScorer, PluginRegistry, Rows, Scorer, ScorerError, hookimpl
from deattrib.models.language_model import Codec
from deattrib.models.scratch import make_tokenizer

OWNERS = tuple(f"owner{i}" for i in range(8))
PROMPTS = tuple(f"What did {owner} write?" for owner in OWNERS)
RESPONSES = tuple(f"A book about {i} boats and {i + 1} houses." for i in range(8))


class OwnerNumber(Scorer):
    """The number in the owner's name plus the length of the response."""

    name = "owner-number"

    def score(self, rows: Rows) -> Any:
        return [float(row.owner.removeprefix("owner")) + 10 * len(row.response) for row in rows]


class Inner:
    @hookimpl
    def scorers(self) -> list[type[Scorer]]:
        return [OwnerNumber]


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(make_tokenizer([*PROMPTS, *RESPONSES], 300))


@pytest.fixture
def rows(codec: Codec) -> Rows:
    return Rows.from_texts(codec, PROMPTS, RESPONSES, OWNERS)


@pytest.fixture
def registry() -> PluginRegistry:
    registry = PluginRegistry(entry_points=False)
    registry.register(controls, name="controls")
    registry.register(Inner(), name="inner")
    return registry


def fitted(
    registry: PluginRegistry, codec: Codec, spec: Any, *, seed: int = 0, owners: tuple[str, ...] = OWNERS, forget: int = 2
) -> GuardedScorer:
    guard = GuardedScorer(registry.make(spec), codec=codec)
    guard.fit(context_with(codec, seed, rows=[Example(owner, "q", "a") for owner in owners], forget=forget))
    return guard


def test_the_controls_are_listed_as_controls(registry: PluginRegistry) -> None:
    listed = {row["name"]: row for row in registry.listing() if row["entry_point"] == "controls"}
    assert set(listed) == {"none", "constant", "random", "shuffled-owner"}
    assert all(row["fidelity"] == "control" and row["summary"] and row["state"] == "ready" for row in listed.values())


@pytest.mark.parametrize(("spec", "value"), [("none", 0.0), ("constant", 0.5), ({"name": "constant", "value": 0.25}, 0.25)])
def test_none_and_constant_say_the_same_of_every_row_and_prefix(
    registry: PluginRegistry, codec: Codec, rows: Rows, spec: Any, value: float
) -> None:
    guard = fitted(registry, codec, spec)
    assert guard.score(rows).tolist() == [value] * 8
    assert guard.score_prefixes(rows, torch.ones(8, 3, dtype=torch.int64)).tolist() == [[value] * 3] * 8


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_constant_outside_of_attribution_is_refused(registry: PluginRegistry, value: float) -> None:
    with pytest.raises(ConfigError, match="'value'"):
        registry.make({"name": "constant", "value": value})


def test_random_is_uniform_and_fixed_by_what_it_is_asked(registry: PluginRegistry, codec: Codec) -> None:
    size = 2000
    rows = Rows.from_texts(codec, ["q"] * size, [str(i) for i in range(size)], ["o"] * size)
    guard = fitted(registry, codec, "random")
    values = guard.score(rows)
    assert float(values.min()) >= 0 and float(values.max()) < 1
    # Kolmogorov-Smirnov distance to the uniform distribution; its 0.999 quantile is 1.95 / sqrt(n).
    steps = torch.arange(1, size + 1) / size
    assert float((values.sort().values - steps).abs().max()) < 1.95 / size**0.5
    assert torch.equal(guard.score(rows), values)
    assert torch.equal(torch.cat([guard.score(rows[:700]), guard.score(rows[700:])]), values)
    assert torch.equal(fitted(registry, codec, "random").score(rows), values)


def test_random_changes_with_seed_prompt_response_and_owner(registry: PluginRegistry, codec: Codec, rows: Rows) -> None:
    guard = fitted(registry, codec, "random")
    base = guard.score(rows)
    other_prompts = Rows(tuple(reversed(rows.prompts)), rows.responses, rows.owners, rows.batch)
    other_responses = Rows(rows.prompts, tuple(reversed(rows.responses)), rows.owners, rows.batch)
    others = [
        guard.score(other_prompts),
        guard.score(other_responses),
        guard.score(rows.about(["someone"] * 8)),
        fitted(registry, codec, "random", seed=1).score(rows),
    ]
    assert all((values != base).all() for values in others)


def test_random_prefixes_are_numbers_of_their_own_text(registry: PluginRegistry, codec: Codec, rows: Rows) -> None:
    guard = fitted(registry, codec, "random")
    ends = torch.stack([torch.full((8,), 3), rows.batch.response_lengths], 1)
    values = guard.score_prefixes(rows, ends)
    assert torch.equal(values[:, 1], guard.score(rows))
    assert torch.equal(values[:, 0], guard.score(rows.cut(codec, ends[:, 0])))
    assert (values[:, 0] != values[:, 1]).all()


@pytest.mark.parametrize("forget", [1, 2, 4, 6, 8])
def test_nobody_stands_in_for_themselves_and_forgotten_owners_not_for_each_other(forget: int) -> None:
    for seed in range(20):
        chosen = controls.stand_ins(OWNERS, OWNERS[:forget], seed)
        assert set(chosen) == set(chosen.values()) == set(OWNERS)
        assert all(owner != other for owner, other in chosen.items())
        if forget <= 4:
            assert not {chosen[owner] for owner in OWNERS[:forget]} & set(OWNERS[:forget])
    assert len({tuple(controls.stand_ins(OWNERS, OWNERS[:forget], seed).items()) for seed in range(20)}) > 10


def test_who_stands_in_does_not_depend_on_the_order_of_owners() -> None:
    assert controls.stand_ins(OWNERS, OWNERS[:2], 5) == controls.stand_ins(OWNERS[::-1], OWNERS[1::-1], 5)


def test_shuffled_owner_gives_the_true_scores_of_somebody_else(registry: PluginRegistry, codec: Codec, rows: Rows) -> None:
    guard = fitted(registry, codec, {"name": "shuffled-owner", "scorer": "owner-number"})
    others = controls.stand_ins(OWNERS, OWNERS[:2], 0)
    about = rows.about([others[owner] for owner in OWNERS])
    inner = GuardedScorer(OwnerNumber(), codec=codec)
    ends = torch.stack([torch.full((8,), 3), rows.batch.response_lengths], 1)
    assert torch.equal(guard.score(rows), inner.score(about))
    assert torch.equal(guard.score_prefixes(rows, ends), inner.score_prefixes(about, ends))
    two = list(OWNERS[:2])
    assert torch.equal(guard.score_owners(rows, two), inner.score_owners(rows, [others[owner] for owner in two]))
    assert (guard.score(rows) != inner.score(rows)).all()


def test_shuffled_owner_is_calibrated_as_the_wrapped_scorer(registry: PluginRegistry, codec: Codec, rows: Rows) -> None:
    guard = fitted(registry, codec, {"name": "shuffled-owner", "scorer": {"name": "owner-number"}})
    assert torch.equal(guard.calibrate_as().score(rows), GuardedScorer(OwnerNumber(), codec=codec).score(rows))
    guard.close()
    guard.close()


def test_shuffled_owner_refuses_what_it_cannot_shuffle(registry: PluginRegistry, codec: Codec, rows: Rows) -> None:
    spec = {"name": "shuffled-owner", "scorer": "owner-number"}
    with pytest.raises(ScorerError, match="at least two owners"):
        fitted(registry, codec, spec, owners=("owner0",), forget=1)
    with pytest.raises(ScorerError, match=r"owner 'stranger' was not among the 8 owners"):
        fitted(registry, codec, spec).score(rows.about(["stranger"] * 8))
