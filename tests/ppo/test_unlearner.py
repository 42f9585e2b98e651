"""The loop: ratio 1 after each refresh, the reference untouched, when it ends, and its variants."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.ppo.toy import EvenTokens, Fixed, paper, run, small
from torch import Tensor

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.scorer import Rows, Scorer
from deattrib.attribution.settings import CalibrationSettings
from deattrib.corpus.types import Corpus
from deattrib.errors import ScorerError
from deattrib.models.language_model import fingerprint
from deattrib.ppo.data import minibatches
from deattrib.ppo.settings import AnchorSettings, PPOSettings
from deattrib.runs.config import build_config

Make = Any  # the fixture of conftest.py
KINDS = [("lora", "shared"), ("lora", "separate"), ("full", "shared"), ("full", "separate")]


# -- the ratio -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("adapter", "critic"), KINDS)
@pytest.mark.parametrize("bf16", [False, True])
def test_the_ratio_is_exactly_1_on_the_first_update_of_each_batch(make: Make, adapter: str, critic: str, bf16: bool) -> None:
    history = run(make(small(steps=2, epochs=1, bf16=bf16), adapter=adapter, critic=critic))
    assert [figures["ratio_error"] for figures in history] == [0.0] * 2
    assert [figures["policy_kl"] for figures in history] == [0.0] * 2
    assert [figures["clip_fraction"] for figures in history] == [0.0] * 2
    assert run(make(small(steps=1, epochs=3)))[0]["ratio_error"] > 0  # the figure can tell


@pytest.mark.parametrize("bf16", [False, True])
def test_the_papers_ratio_is_1_after_each_pass_and_only_then(make: Make, tiny_corpus: Corpus, bf16: bool) -> None:
    assert len(tiny_corpus.forget) == 24
    history = run(make(paper(steps=7, epochs=1, batch_size=8, minibatch_size=8, bf16=bf16)))
    errors = [figures["ratio_error"] for figures in history]
    assert [error == 0 for error in errors] == [True, False, False, True, False, False, True]


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_the_old_policy_is_refreshed_once_per_pass_also_inside_a_batch(make: Make, tiny_corpus: Corpus, adapter: str) -> None:
    """24 rows in batches of 5: passes end in batches 5, 10 (48 of 50), 15 (72 of 75), 20 (96 of 100)."""
    unlearner = make(paper(steps=16, epochs=1, max_new_tokens=2, learning_rate=1e-4), adapter=adapter)
    refreshed = []
    remember = unlearner.policy.remember

    def listen() -> None:
        refreshed.append(unlearner.step)
        remember()

    unlearner.policy.remember = listen
    run(unlearner)
    assert refreshed == [5, 10, 15]


# -- what is not trained -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("adapter", "critic"), KINDS)
@pytest.mark.parametrize("settings", [small(steps=2), paper(steps=2)], ids=["default", "paper"])
def test_training_leaves_original_and_base_untouched(make: Make, settings: PPOSettings, adapter: str, critic: str) -> None:
    unlearner = make(settings, adapter=adapter, critic=critic)
    original, base = fingerprint(unlearner.policy.original().clone()), unlearner.reference.base
    assert base is not None
    weights = fingerprint(base.model)
    before = unlearner.policy.state()
    run(unlearner)
    assert fingerprint(unlearner.policy.original().clone()) == original
    assert fingerprint(base.model) == weights
    after = unlearner.policy.state()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    trained = {name for name in unlearner.policy.trainable() if "lm_head" not in name}
    unused = {name for name in trained if "lora_A" in name}  # B starts at 0: A only moves from the second update on
    assert trained - unused - moved <= {name for name in trained if "critic" in name}
    assert any("critic" in name for name in moved) == (critic == "separate")
    assert all(name in moved for name in ("value_head.weight", "value_head.bias"))


@pytest.mark.parametrize("bf16", [False, True])
def test_every_adapter_matrix_learns(make: Make, bf16: bool) -> None:
    unlearner = make(small(steps=3, bf16=bf16), critic="separate")
    before = unlearner.policy.state()
    run(unlearner)
    after = unlearner.policy.state()
    still = [name for name in unlearner.policy.trainable() if torch.equal(before[name], after[name])]
    # In the critic the last layer's query and key may lack a gradient only if nothing depends on them; nothing here does.
    assert still == []


# -- when it ends --------------------------------------------------------------------------------------------------------
def test_it_stops_when_attribution_stays_at_chance(make: Make) -> None:
    unlearner = make(small(stop_attribution=0.1, stop_patience=2), Fixed(0.05))
    assert len(run(unlearner)) == 2
    assert unlearner.finished and "0.1" in str(unlearner.stopped)
    assert next(unlearner, None) is None
    assert len(run(make(small(steps=3, stop_attribution=0.1, stop_patience=2), Fixed(0.2)))) == 3
    assert len(run(make(small(steps=3, stop_patience=2), Fixed(0.0)))) == 3


def test_being_at_chance_must_last(make: Make) -> None:
    source = Fixed(0.0)
    unlearner = make(small(stop_attribution=0.1, stop_patience=3), source)
    run(unlearner, 2)
    source.value = 0.9
    run(unlearner, 1)
    assert unlearner.calm == 0
    source.value = 0.0
    run(unlearner, 2)
    assert unlearner.calm == 2 and not unlearner.stopped


def test_a_batch_is_cut_short_when_the_policy_goes_too_far(make: Make) -> None:
    far = run(make(small(steps=1, epochs=8, learning_rate=0.05, warmup=0, target_kl=1e-4)))[0]
    near = run(make(small(steps=1, epochs=8, learning_rate=0.05, warmup=0)))[0]
    assert far["cut_short"] == 1.0 and "cut_short" not in near
    assert far["policy_kl"] < near["policy_kl"]


def test_the_learning_rate_rises_and_falls(make: Make) -> None:
    unlearner = make(small(steps=6, warmup=2, schedule="linear"))
    rates = []
    for step in range(6):
        unlearner.step = step
        rates.append(unlearner.settings.share_of_peak(unlearner.step, unlearner.steps))
    assert rates == pytest.approx([1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25])


# -- variants ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("reference", ["old", "original", "base", "counterfactual", "none"])
@pytest.mark.parametrize("estimator", ["k1", "full"])
def test_every_reference_runs(make: Make, reference: str, estimator: str) -> None:
    history = run(make(small(steps=2, reward={"reference": reference, "kl_estimator": estimator})))
    assert all(torch.isfinite(torch.tensor(list(figures.values()))).all() for figures in history)
    first, second = (figures["kl"] for figures in history)
    if reference in ("old", "original", "none"):
        assert first == pytest.approx(0.0, abs=1e-6)  # the policy is still the original
    else:
        assert first != 0.0
    assert (second == 0.0) == (reference == "none")
    if estimator == "full":
        assert first >= -1e-6 and second >= -1e-6


def test_without_rollouts_no_scorer_is_asked(make: Make) -> None:
    source = EvenTokens()
    history = run(make(small(steps=2, policy_weight=0.0), source))
    assert source.calls == 0
    assert all("attribution" not in figures and figures["anchor_hinge"] >= 0 for figures in history)


def test_without_the_anchored_term_there_is_none(make: Make) -> None:
    figures = run(make(small(steps=1, anchor={"hinge": 0.0, "kl": 0.0})))[0]
    assert "anchor_hinge" not in figures and "retain_loss" in figures
    assert "retain_loss" not in run(make(small(steps=1, retain={"weight": 0.0})))[0]


def test_minibatches_take_every_row_once(make: Make) -> None:
    unlearner = make(small(minibatch_size=2))
    parts = minibatches(5, 2, unlearner.generator)
    assert [len(part) for part in parts] == [2, 2, 1]
    assert sorted(torch.cat(parts).tolist()) == list(range(5))


def test_the_models_own_answers_are_anchored_too(make: Make, tiny_corpus: Corpus) -> None:
    unlearner = make(small(anchor={"samples": 2}))
    rows = unlearner.lessons.anchors.items
    assert rows[: len(tiny_corpus.forget)] == tiny_corpus.forget
    extra = rows[len(tiny_corpus.forget) :]
    assert 0 < len(extra) <= 2 * len(tiny_corpus.forget)
    assert {row.prompt for row in extra} <= {row.prompt for row in tiny_corpus.forget}


@pytest.mark.parametrize("estimator", ["rloo", "grpo"])
def test_without_a_value_function_there_is_no_value_and_its_head_stays_as_it_was(make: Make, estimator: str) -> None:
    unlearner = make(small(steps=2, batch_size=6, minibatch_size=4, estimator=estimator, rollout={"samples": 3}))
    before = unlearner.policy.value_head.weight.detach().clone()
    assert all("value_loss" not in figures and figures["grad_norm"] > 0 for figures in run(unlearner))
    assert torch.equal(unlearner.policy.value_head.weight, before)
    with pytest.raises(ValueError, match=f"estimator {estimator} compares answers to the same prompt: set rollout.samples"):
        small(estimator=estimator)


def test_a_scorer_that_returns_nan_stops_the_run_and_is_named(make: Make, tiny_corpus: Corpus) -> None:
    class Broken(Scorer):
        name = "broken-one"
        after = 0

        def score_prefixes(self, rows: Rows, ends: Tensor) -> Tensor:
            type(self).after += 1
            return torch.full(ends.shape, float("nan") if self.after > 2 else 0.5)

        def score(self, rows: Rows) -> Tensor:
            return torch.tensor([1 / (1 + len(row.response)) for row in rows])

    off = CalibrationSettings(enabled=False)
    attributor = Attributor(Broken, calibration=off)
    unlearner = make(small(), attributor)
    attributor.fit(tiny_corpus, unlearner.policy.original())
    attributor.watch(unlearner.policy)
    assert len(run(unlearner, 2)) == 2
    with pytest.raises(ScorerError, match=r"broken-one.*nan"):
        next(unlearner)


def test_settings_of_the_papers_preset() -> None:
    settings = build_config(data={"preset": "paper"}).ppo
    assert (settings.clip, settings.value_coefficient, settings.temperature, settings.epochs) == (0.2, 0.2, 0.8, 20)
    assert (settings.batch_size, settings.learning_rate, settings.gae_lambda, settings.refresh) == (32, 1.5e-4, 1.0, "epoch")
    reward = settings.reward
    assert (reward.shape, reward.c_seg, reward.slices, reward.kl, reward.reference) == ("chi", 1.05, 15, 0.1, "old")
    assert (reward.kl_estimator, reward.normalise, reward.cumulative_mean, reward.target) == ("full", "sum", True, "own")
    assert settings.retain.weight == 2.0 and settings.anchor.hinge == 0 and settings.anchor.kl == 0


def test_no_answer_is_put_under_another_forget_owners_prompt(make: Make, tiny_corpus: Corpus) -> None:
    """The counterfactual swaps the names of the answer's owner only; the other's knowledge would be taught, not forgotten."""
    unlearner = make(PPOSettings(policy_weight=0.0, anchor=AnchorSettings(mixed_prompts=1.0)))
    asked = {row.prompt: row.owner for row in tiny_corpus.train}
    for row in tiny_corpus.forget[:2] + tiny_corpus.forget[-2:]:
        owners = {asked[unlearner.lessons._mixed(row).prompt] for _ in range(400)}
        assert owners == {*tiny_corpus.retain_owners, row.owner}
