"""Which metrics come with the library, by name. All of them are asked by default."""

from __future__ import annotations

from deattrib.evaluation.metric import Metric
from deattrib.evaluation.metrics.likeness import OracleKL, QuestionDependence
from deattrib.evaluation.metrics.membership import Membership
from deattrib.evaluation.metrics.ratios import ForgetQuality, TruthRatio

METRICS: tuple[type[Metric], ...] = (TruthRatio, ForgetQuality, OracleKL, Membership, QuestionDependence)
