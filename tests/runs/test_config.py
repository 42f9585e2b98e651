"""One config from preset, file, overrides and flags; and which reference a run really gets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError
from deattrib.models.language_model import LanguageModel
from deattrib.runs.config import RunConfig, build_config
from deattrib.runs.session import default_referee, settle_references
from deattrib.runs.validation import validate


def test_the_paper_preset_has_the_published_numbers() -> None:
    """Lu et al. 2026, section 4.2.1, section 5.1, appendix D and E."""
    config = build_config(data={"preset": "paper"})
    ppo = config.ppo
    assert (ppo.epochs, ppo.batch_size, ppo.data_epochs, ppo.learning_rate, ppo.temperature) == (20, 32, 1, 1.5e-4, 0.8)
    assert (ppo.clip, ppo.value_coefficient, ppo.gae_lambda, ppo.policy_weight) == (0.2, 0.2, 1.0, 1.0)
    assert (ppo.reward.shape, ppo.reward.slices, ppo.reward.c_seg, ppo.reward.kl) == ("chi", 15, 1.05, 0.1)
    assert (ppo.reward.reference, ppo.reward.kl_estimator, ppo.reward.normalise, ppo.refresh) == ("old", "full", "sum", "epoch")
    assert (ppo.retain.weight, ppo.retain.dropped_words) == (2.0, 0.0)
    assert (ppo.anchor.hinge, ppo.anchor.kl) == (0.0, 0.0)
    assert (config.policy.rank, config.policy.alpha) == (8, 16.0)
    assert not config.calibration.enabled


def test_each_layer_goes_over_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("preset: paper\nseed: 3\nppo: {steps: 5, reward: {slices: 4}}\n")
    config = build_config(path=path, overrides=["ppo.reward.slices=6"], reward="membership", seed=9)
    assert (config.ppo.reward.slices, config.ppo.reward.shape, config.reward, config.seed) == (6, "chi", "membership", 9)
    assert (config.ppo.steps, config.ppo.data_epochs) == (5, None)  # steps that were asked for win over the preset's pass


def test_a_resolved_config_loads_again_unchanged() -> None:
    for preset in ("default", "paper", "ppo"):
        config = build_config(data={"preset": preset})
        assert validate(RunConfig, config.plain(), source="again") == config


@pytest.mark.parametrize("preset", ["papre", ["paper"], 3])
def test_an_unknown_preset_is_refused(preset: object) -> None:
    with pytest.raises(ConfigError, match="preset"):
        build_config(data={"preset": preset})


def test_the_referee_has_another_backbone_than_the_reward() -> None:
    assert default_referee("classifier")["backbone"] == "causal"
    assert default_referee({"name": "classifier", "backbone": "causal"})["backbone"] == "ngram"
    assert default_referee("shuffled-owner")["backbone"] == "causal"
    assert default_referee(["membership", {"name": "classifier", "backbone": "causal"}])["backbone"] == "ngram"


def test_references_follow_what_is_there(tiny_corpus: Corpus, tiny_llama: object) -> None:
    ppo = build_config(data={}).ppo
    nameless = dataclasses.replace(tiny_corpus, identities={})
    base = LanguageModel.__new__(LanguageModel)
    assert settle_references(ppo, tiny_corpus, base) == ppo
    assert settle_references(ppo, tiny_corpus, None).anchor.towards == "counterfactual"
    without_names = settle_references(ppo, nameless, base)
    assert (without_names.reward.reference, without_names.anchor.towards) == ("base", "base")
    with pytest.raises(ConfigError, match=r"identity.*model\.base"):
        settle_references(ppo, nameless, None)
    for preset in ("paper", "ppo"):  # these need neither
        alone = build_config(data={"preset": preset}).ppo
        assert settle_references(alone, nameless, None) == alone
