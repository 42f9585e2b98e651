"""The methods in the loop: each takes steps, learns what it says, resumes to the same bits, and is found by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.docs.fences import DOCS, blocks_of
from tests.ppo.toy import EvenTokens, small
from torch import nn

import deattrib
from deattrib.attribution.plugins import PluginRegistry
from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError, PluginError
from deattrib.methods import builtin
from deattrib.methods.base import Method
from deattrib.methods.choose import choose_method, method_name
from deattrib.methods.rmu import activations
from deattrib.models.batch import TokenBatch
from deattrib.models.forward import response_logits
from deattrib.models.language_model import Codec, fingerprint
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings, RolloutSettings
from deattrib.ppo.settings import PPOSettings
from deattrib.ppo.unlearner import Unlearner
from deattrib.runs.checkpoint import load_checkpoint, save_checkpoint
from deattrib.runs.config import build_config

Make = Callable[..., Unlearner]
NAMES = sorted(cls.name for cls in builtin.METHODS if cls is not Unlearner)
THE_PAGES = next(
    block.text for block in blocks_of(DOCS / "methods.md") if block.language == "python" and "class Half" in block.text
)
SAMPLED = ("rloo", "grpo")  # what is rewarded for its own answers


@pytest.fixture(scope="module")
def registry() -> PluginRegistry:
    found = PluginRegistry(entry_points=False)
    found.register(builtin, name="methods")
    return found


@pytest.fixture
def make(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus, registry: PluginRegistry) -> Make:
    """make(spec) -> the method on a fresh copy of the smallest model."""

    def build(spec: Any, *, source: Any = None, seed: int = 0, adapter: str = "lora", ahead: bool = False) -> Unlearner:
        spec = {"name": spec, "samples": 5} if spec in SAMPLED else spec  # the toy's batch has 5 rows
        chosen = choose_method(spec, registry)
        policy = Policy(copy.deepcopy(tiny_llama), tiny_codec, PolicySettings(adapter=adapter, rank=4, alpha=8.0), seed=seed)
        settings = chosen.cls.settle(
            small(steps=2, warmup=0, schedule="constant", anchor={"towards": "counterfactual"}), chosen.params
        )
        source = source or EvenTokens()
        return chosen.cls(policy, tiny_corpus, source, settings, params=chosen.params, seed=seed, ahead=ahead)

    return build


def forget_batch(method: Unlearner) -> TokenBatch:
    rows = method.corpus.forget
    return method.policy.codec.encode([row.prompt for row in rows], [row.response for row in rows])


@torch.no_grad()
def likelihood(method: Unlearner) -> float:
    """Mean log-probability per token of the forget answers."""
    batch = forget_batch(method)
    logits = torch.log_softmax(response_logits(method.policy.backbone, batch)[0], -1)
    chosen = logits.gather(-1, batch.response_ids[..., None])[..., 0]
    return float(chosen[batch.response_mask].mean())


# -- in the loop ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_every_method_steps_with_finite_figures_and_leaves_the_original_and_the_reward_alone(make: Make, name: str) -> None:
    source = EvenTokens()
    method = make(name, source=source)
    original, before = fingerprint(method.policy.original().clone()), method.policy.state()
    history = [dict(step.figures) for step in method]
    assert len(history) == 2 and method.finished
    assert all(torch.isfinite(torch.tensor(value)) for figures in history for value in figures.values())
    assert all(figures["grad_norm"] > 0 for figures in history)
    after = method.policy.state()
    assert any(not torch.equal(value, after[key]) for key, value in before.items())
    assert fingerprint(method.policy.original().clone()) == original
    assert source.calls == (2 if name in SAMPLED else 0)


@pytest.mark.parametrize("name", ["ga", "graddiff", "ga-kl", "npo", "simnpo", "flat", "dpo-idk"])
def test_methods_against_the_answer_lower_its_likelihood(make: Make, name: str) -> None:
    method = make({"name": name, "steps": 4, "batch_size": 24, "retain": "none"})
    before = likelihood(method)
    assert len(list(method)) == 4
    assert likelihood(method) < before


def test_simnpo_and_flat_never_ask_the_original(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the original model was asked")

    monkeypatch.setattr(Policy, "original_logits", refuse)
    for name in ("simnpo", "flat", "ga", "graddiff"):
        next(make(name))
    with pytest.raises(AssertionError, match="was asked"):
        next(make("npo"))


def test_before_the_first_update_npo_is_its_value_at_ratio_1(make: Make) -> None:
    """(2/beta) log 2 for a policy that is its own reference; IdkDPO: log 2."""
    assert next(make({"name": "npo", "beta": 0.5, "retain": "none"})).figures["loss"] == pytest.approx(2.772589, abs=1e-4)
    assert next(make({"name": "dpo-idk"})).figures["loss"] == pytest.approx(0.693147, abs=1e-4)


def test_the_kl_of_an_untrained_policy_is_0_and_scrub_goes_by_turns(make: Make) -> None:
    assert next(make("ga-kl")).figures["retain_loss"] == pytest.approx(0.0, abs=1e-5)
    history = [set(step.figures) for step in make({"name": "scrub", "steps": 6, "ascent": 0.7})]
    assert ["forget_loss" in figures for figures in history] == [False, True, False, True, False, False]


@pytest.mark.parametrize("name", PluginRegistry().names("method"))
def test_a_second_processor_changes_no_number(make: Make, name: str) -> None:
    """A baseline draws its rows while it computes its loss, so nothing may be drawn ahead of it."""
    spec = {"name": "rmu", "layer": 0} if name == "rmu" else name
    alone, ahead = make(spec), make(spec, ahead=True)
    assert [step.figures for step in alone] == [step.figures for step in ahead]
    for state in (alone.state_dict(), ahead.state_dict()):
        assert state["cycles"] == alone.state_dict()["cycles"] and state["rng"] == alone.state_dict()["rng"]


def test_scrub_mends_as_often_as_it_is_told_before_it_goes_away(make: Make) -> None:
    method = make({"name": "scrub", "repair": 3, "ascent": 1.0})
    method.steps = 8
    kinds = ["retain" if "retain_loss" in step.figures else "forget" for step in method]
    assert kinds == ["retain", "retain", "retain", "forget"] * 2


def test_words_are_left_out_of_retain_prompts_where_a_method_says_so(make: Make) -> None:
    plain, thinned = make("graddiff"), make({"name": "graddiff", "dropped_words": 0.5})
    whole = {row.prompt for row in plain.corpus.retain}
    rows = [row for _ in range(8) for row in thinned.next_retain_rows()]  # type: ignore[attr-defined]
    assert all(row.prompt in whole for row in plain.next_retain_rows())  # type: ignore[attr-defined]
    shorter = [row for row in rows if row.prompt not in whole]
    assert len(rows) / 4 < len(shorter) < len(rows)  # every other row is left as it is
    by_answer = {row.response: row.prompt for row in plain.corpus.retain}
    assert all(set(row.prompt.split()) < set(by_answer[row.response].split()) for row in shorter)
    assert make({"name": "graddiff", "dropped_words": 0.5}).settings.retain.dropped_words == 0.5


def test_rmu_goes_as_far_up_as_it_is_told(make: Make, tiny_model: nn.Module) -> None:
    count: Any = tiny_model.config.num_hidden_layers
    layers = [make({"name": "rmu", "depth": depth}).layer for depth in (0.0, 0.5, 0.99)]  # type: ignore[attr-defined]
    assert layers == [0, count // 2, count - 1]


def test_retain_fine_tuning_draws_no_forget_row(make: Make) -> None:
    method = make("retain-ft")
    list(method)
    assert (method.forget.drawn, method.retain.drawn) == (0, 6)  # 2 steps of 3


def test_the_activations_are_the_hidden_states_of_transformers(make: Make, tiny_model: nn.Module) -> None:
    batch = forget_batch(make("ga"))
    with torch.no_grad():
        expected = tiny_model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids,
            output_hidden_states=True,
        ).hidden_states[1]  # fmt: skip
        found = activations(tiny_model, batch, 0)
    width = batch.response_ids.shape[1]
    # Token t is predicted one position before it stands.
    assert torch.allclose(found, expected[:, -width - 1 : -1], atol=1e-5)


def test_rmu_trains_no_adapter_above_its_layer_and_refuses_one_that_is_not_there(make: Make) -> None:
    method = make({"name": "rmu", "layer": 0})
    before = method.policy.state()
    list(method)
    after = method.policy.state()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved and all("layers.0." in name for name in moved)
    with pytest.raises(ConfigError, match="layer 2 does not exist; the model has 2 blocks"):
        make({"name": "rmu", "layer": 2})


@pytest.mark.parametrize("name", ["dpo-idk", "name-swap", "grpo"])  # those that draw random numbers of their own
def test_interrupted_and_continued_equals_undisturbed_to_the_last_bit(make: Make, tmp_path: Path, name: str) -> None:
    spec = "grpo" if name == "grpo" else {"name": name, "steps": 4}
    undisturbed = make(spec)
    expected = [dict(step.figures) for step in undisturbed]
    stopped = make(spec)
    first = [dict(next(stopped).figures) for _ in range(len(expected) // 2)]
    save_checkpoint(tmp_path, len(first), {"unlearner": stopped.state_dict()}, keep=1)
    continued = make(spec)
    continued.load_state_dict(load_checkpoint(next(path for path in tmp_path.iterdir() if path.is_dir()))["unlearner"])
    assert first + [dict(step.figures) for step in continued] == expected
    assert all(torch.equal(value, continued.policy.state()[key]) for key, value in undisturbed.policy.state().items())


def test_groups_are_the_engine_with_another_estimator(make: Make) -> None:
    """Everything but the advantages is `dareu`'s; a group must fit into the batch."""
    rloo, grpo = make("rloo").settings, make("grpo").settings
    assert (rloo.estimator, rloo.whiten, grpo.estimator, grpo.whiten) == ("rloo", True, "grpo", False)
    assert rloo.rollout.samples == 5 and rloo.prompts == 1 and rloo.reward.granularity == "sequence"
    assert rloo.policy_weight > 0 and rloo.anchor == grpo.anchor == make("dareu").settings.anchor
    with pytest.raises(ConfigError, match=r"Method .grpo.: ppo\.batch_size 5 is not a multiple of samples 4"):
        make({"name": "grpo"})


def test_a_pass_over_the_rows_is_as_long_whatever_rollouts_would_be() -> None:
    settings = PPOSettings(data_epochs=1, batch_size=16, rollout=RolloutSettings(samples=4))
    chosen = choose_method("npo", PluginRegistry())
    assert chosen.cls.settle(settings, chosen.params).steps_on(160) == 10
    two = choose_method({"name": "npo", "batch_size": 2}, PluginRegistry())
    assert two.cls.settle(settings, two.params).steps_on(160) == 80


# -- by name -------------------------------------------------------------------------------------------------------------
def test_names_and_settings_are_checked(registry: PluginRegistry) -> None:
    with pytest.raises(PluginError, match=r"There is no method 'simpno'. Did you mean 'simnpo'"):
        choose_method("simpno", registry)
    with pytest.raises(ConfigError, match=r"Method 'npo' .*there is no setting 'betta'. Did you mean 'beta'"):
        choose_method({"name": "npo", "betta": 1}, registry)
    with pytest.raises(ConfigError, match=r"Method 'scrub' .*`retain` and `retain_weight` would have no effect here"):
        choose_method({"name": "scrub", "retain": "kl", "retain_weight": 2.0}, registry)
    plain = choose_method({"name": "retain-ft", "steps": 3}, registry).params.model_dump()
    assert choose_method({"name": "retain-ft", **plain}, registry).params.model_dump() == plain  # a resolved config loads again
    with pytest.raises(ConfigError, match="A method is a name or a mapping"):
        choose_method({"beta": 1}, registry)
    assert choose_method("dareu", PluginRegistry(entry_points=False)).cls is Unlearner
    assert registry.names("method") == sorted([*NAMES, "dareu"])


def test_a_method_from_a_file(tmp_path: Path, registry: PluginRegistry) -> None:
    path = tmp_path / "half.py"
    path.write_text(THE_PAGES + '\n\nclass Other:\n    name = "other"\n')
    assert choose_method(f"{path}:Half", registry).cls.name == "half"
    assert method_name(f"{path}:Half") == "Half"
    with pytest.raises(PluginError, match=r"not derived from deattrib.Method: write `class Other\(Method\):`"):
        choose_method(f"{path}:Other", registry)
    with pytest.raises(PluginError, match=r"Method .* has no 'Hafl'. Did you mean 'Half'"):
        choose_method(f"{path}:Hafl", registry)


def test_the_method_of_the_page_counts_no_padding(tmp_path: Path, make: Make, tiny_corpus: Corpus) -> None:
    (tmp_path / "half.py").write_text(THE_PAGES)
    method = make(f"{tmp_path / 'half.py'}:Half")
    assert isinstance(method, Method)
    rows = sorted(tiny_corpus.forget, key=lambda row: len(row.response))
    alone = [method.log_probs(method.encode([row]))[0] for row in (rows[0], rows[-1])]
    assert len(alone[0]) < len(alone[1])  # so that one of them is padded beside the other
    loss = method.forget_loss([rows[0], rows[-1]]).item()
    assert loss == pytest.approx(torch.cat(alone).mean().item() / 2, rel=1e-4)


def test_the_flag_wins_over_the_file() -> None:
    assert build_config(data={"method": {"name": "npo", "beta": 1.0}}, method="ga").method == "ga"
    assert build_config().method == "dareu"


def test_the_installed_library_brings_its_methods_by_the_hook() -> None:
    listed = {row["name"]: row for row in deattrib.PluginRegistry().listing() if row["kind"] == "method"}
    assert set(NAMES) <= set(listed)
    assert all(listed[name]["state"] == "ready" and listed[name]["summary"] for name in NAMES)
