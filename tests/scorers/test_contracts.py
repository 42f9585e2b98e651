"""Every scorer that comes with the library keeps the contract that third parties test theirs with."""

from __future__ import annotations

from typing import Any

import pytest
from tests.scorers.encoder import make_encoder

from deattrib import PluginRegistry, Scorer
from deattrib.testing import ScorerContract, World


@pytest.mark.parametrize("name", ["classifier", "membership", "exact", "overlap", "loss", "zlib", "min-k", "min-k-plus-plus"])
def test_settings_are_written_as_the_pages_say(name: str) -> None:
    params = PluginRegistry().scorer(name).Params
    assert issubclass(params, Scorer.Params)
    assert vars(params).get("__doc__", "").startswith("Settings ")
    assert {"extra": "forbid", "frozen": True, "allow_inf_nan": False}.items() <= params.model_config.items()


class TestNgramClassifier(ScorerContract):
    scorer = "classifier"


class TestCausalClassifier(ScorerContract):
    scorer = "classifier"
    params = {"backbone": "causal", "learning_rate": 5e-3}


class TestEncoderClassifier(ScorerContract):
    @pytest.fixture(scope="class")
    @staticmethod
    def scorer_spec(contract_world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
        folder = make_encoder(tmp_path_factory.mktemp("encoder"), [row.response for row in contract_world.corpus.train])
        return {"name": "classifier", "backbone": folder}


class TestLogOddsClassifier(ScorerContract):
    scorer = {"name": "classifier", "output": "log-odds", "mask_names": False}


class TestMembershipCounterfactual(ScorerContract):
    scorer = {"name": "membership", "reference": "counterfactual"}


class TestMembershipBase(ScorerContract):
    scorer = {"name": "membership", "reference": "base"}


class TestOverlap(ScorerContract):
    scorer = "overlap"


class TestLongestOverlap(ScorerContract):
    scorer = {"name": "overlap", "measure": "longest"}


class TestLoss(ScorerContract):
    scorer = "loss"


class TestLossShare(ScorerContract):
    scorer = {"name": "loss", "reference": "counterfactual"}


class TestZlib(ScorerContract):
    scorer = "zlib"


class TestMinK(ScorerContract):
    scorer = "min-k"


class TestMinKPlusPlus(ScorerContract):
    scorer = "min-k-plus-plus"


class TestGradient(ScorerContract):
    scorer = "gradient"


class TestGradientCosine(ScorerContract):
    scorer = {"name": "gradient", "similarity": "cosine"}


class TestTrak(ScorerContract):
    scorer = "trak"


class TestInfluence(ScorerContract):
    scorer = "influence"


class TestExact(ScorerContract):
    scorer = {"name": "exact", "owners": "all", "seeds": 1}


class TestNoReward(ScorerContract):
    scorer = "none"


class TestConstant(ScorerContract):
    scorer = "constant"


class TestRandom(ScorerContract):
    scorer = "random"


class TestShuffledOwner(ScorerContract):
    scorer = "shuffled-owner"


def test_every_scorer_of_the_library_has_its_contract_here() -> None:
    """A new scorer comes with its class above."""
    classes = [value for value in globals().values() if isinstance(value, type) and issubclass(value, ScorerContract)]
    specs = [cls.scorer for cls in classes if cls.scorer is not None]
    checked = {spec["name"] if isinstance(spec, dict) else spec for spec in specs}
    listing = PluginRegistry().listing()
    shipped = {entry["name"] for entry in listing if entry["kind"] == "scorer" and entry["distribution"] == "deattrib"}
    assert shipped and shipped - checked == set()
