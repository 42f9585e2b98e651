"""Every scorer that comes with the library keeps the contract that third parties test theirs with."""

from __future__ import annotations

from deattrib.testing import ScorerContract


class TestNgramClassifier(ScorerContract):
    scorer = "classifier"


class TestCausalClassifier(ScorerContract):
    scorer = "classifier"
    params = {"backbone": "causal", "learning_rate": 5e-3}


class TestLogOddsClassifier(ScorerContract):
    scorer = {"name": "classifier", "output": "log-odds", "mask_names": False}


class TestMembershipCounterfactual(ScorerContract):
    scorer = {"name": "membership", "reference": "counterfactual"}


class TestMembershipBase(ScorerContract):
    scorer = {"name": "membership", "reference": "base"}


class TestNoReward(ScorerContract):
    scorer = "none"


class TestConstant(ScorerContract):
    scorer = "constant"


class TestRandom(ScorerContract):
    scorer = "random"


class TestShuffledOwner(ScorerContract):
    scorer = "shuffled-owner"
