"""deattrib: unlearning of language models by PPO on attribution rewards.

Names are imported when they are first used, so that `import deattrib` costs nothing and loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deattrib.attacks.base import Attack, AttackResult, AttackSubject
    from deattrib.attribution.attributor import Attributor
    from deattrib.attribution.context import ScorerContext
    from deattrib.attribution.guard import GuardedScorer
    from deattrib.attribution.hookspecs import AttributionReward, hookimpl
    from deattrib.attribution.plugins import PluginRegistry, make_scorer
    from deattrib.attribution.scorer import Row, Rows, Scorer
    from deattrib.attribution.settings import CalibrationSettings, GuardSettings
    from deattrib.corpus.settings import CorpusSettings, load_corpus
    from deattrib.corpus.types import Corpus, Example
    from deattrib.errors import (
        CalibrationError,
        ConfigError,
        CorpusError,
        DeattribError,
        MetricError,
        ModelError,
        PluginError,
        RunError,
        ScorerError,
    )
    from deattrib.evaluation.metric import Column, Figure, Metric, Subject
    from deattrib.evaluation.rows import EvaluatedRows, Evaluation
    from deattrib.evaluation.settings import EvaluationSettings
    from deattrib.methods.base import Method
    from deattrib.models.batch import TokenBatch
    from deattrib.models.forward import response_logits
    from deattrib.models.identities import SwappedBatch
    from deattrib.models.language_model import Codec, LanguageModel, fingerprint
    from deattrib.models.loading import load_language_model
    from deattrib.models.policy import Policy
    from deattrib.models.recipes import PolicySettings
    from deattrib.models.settings import ModelSettings
    from deattrib.ppo.search import Choice, Span
    from deattrib.ppo.settings import PPOSettings
    from deattrib.ppo.unlearner import Step, Unlearner
    from deattrib.runs.config import RunConfig, build_config
    from deattrib.runs.in_memory import Unlearned, unlearn
    from deattrib.runs.listener import Listener
    from deattrib.runs.pipeline import RunResult, run
    from deattrib.runs.prepare import Models, prepare_models
    from deattrib.runs.signals import Interrupted

    __version__: str

# Public name -> the module that defines it. A name added here goes into the block above and into __all__, too.
_EXPORTS = {
    "Attack": "deattrib.attacks.base",
    "AttackResult": "deattrib.attacks.base",
    "AttackSubject": "deattrib.attacks.base",
    "AttributionReward": "deattrib.attribution.hookspecs",
    "Attributor": "deattrib.attribution.attributor",
    "CalibrationError": "deattrib.errors",
    "CalibrationSettings": "deattrib.attribution.settings",
    "Choice": "deattrib.ppo.search",
    "Codec": "deattrib.models.language_model",
    "Column": "deattrib.evaluation.metric",
    "ConfigError": "deattrib.errors",
    "Corpus": "deattrib.corpus.types",
    "CorpusError": "deattrib.errors",
    "CorpusSettings": "deattrib.corpus.settings",
    "DeattribError": "deattrib.errors",
    "EvaluatedRows": "deattrib.evaluation.rows",
    "Evaluation": "deattrib.evaluation.rows",
    "EvaluationSettings": "deattrib.evaluation.settings",
    "Example": "deattrib.corpus.types",
    "Figure": "deattrib.evaluation.metric",
    "GuardSettings": "deattrib.attribution.settings",
    "GuardedScorer": "deattrib.attribution.guard",
    "Interrupted": "deattrib.runs.signals",
    "LanguageModel": "deattrib.models.language_model",
    "Listener": "deattrib.runs.listener",
    "Method": "deattrib.methods.base",
    "Metric": "deattrib.evaluation.metric",
    "MetricError": "deattrib.errors",
    "ModelError": "deattrib.errors",
    "ModelSettings": "deattrib.models.settings",
    "Models": "deattrib.runs.prepare",
    "PPOSettings": "deattrib.ppo.settings",
    "PluginError": "deattrib.errors",
    "PluginRegistry": "deattrib.attribution.plugins",
    "Policy": "deattrib.models.policy",
    "PolicySettings": "deattrib.models.recipes",
    "Row": "deattrib.attribution.scorer",
    "Rows": "deattrib.attribution.scorer",
    "RunConfig": "deattrib.runs.config",
    "RunError": "deattrib.errors",
    "RunResult": "deattrib.runs.pipeline",
    "Scorer": "deattrib.attribution.scorer",
    "ScorerContext": "deattrib.attribution.context",
    "ScorerError": "deattrib.errors",
    "Span": "deattrib.ppo.search",
    "Step": "deattrib.ppo.unlearner",
    "Subject": "deattrib.evaluation.metric",
    "SwappedBatch": "deattrib.models.identities",
    "TokenBatch": "deattrib.models.batch",
    "Unlearned": "deattrib.runs.in_memory",
    "Unlearner": "deattrib.ppo.unlearner",
    "build_config": "deattrib.runs.config",
    "fingerprint": "deattrib.models.language_model",
    "hookimpl": "deattrib.attribution.hookspecs",
    "load_corpus": "deattrib.corpus.settings",
    "load_language_model": "deattrib.models.loading",
    "make_scorer": "deattrib.attribution.plugins",
    "prepare_models": "deattrib.runs.prepare",
    "response_logits": "deattrib.models.forward",
    "run": "deattrib.runs.pipeline",
    "unlearn": "deattrib.runs.in_memory",
}

__all__ = [
    "Attack",
    "AttackResult",
    "AttackSubject",
    "AttributionReward",
    "Attributor",
    "CalibrationError",
    "CalibrationSettings",
    "Choice",
    "Codec",
    "Column",
    "ConfigError",
    "Corpus",
    "CorpusError",
    "CorpusSettings",
    "DeattribError",
    "EvaluatedRows",
    "Evaluation",
    "EvaluationSettings",
    "Example",
    "Figure",
    "GuardSettings",
    "GuardedScorer",
    "Interrupted",
    "LanguageModel",
    "Listener",
    "Method",
    "Metric",
    "MetricError",
    "ModelError",
    "ModelSettings",
    "Models",
    "PPOSettings",
    "PluginError",
    "PluginRegistry",
    "Policy",
    "PolicySettings",
    "Row",
    "Rows",
    "RunConfig",
    "RunError",
    "RunResult",
    "Scorer",
    "ScorerContext",
    "ScorerError",
    "Span",
    "Step",
    "Subject",
    "SwappedBatch",
    "TokenBatch",
    "Unlearned",
    "Unlearner",
    "__version__",
    "build_config",
    "fingerprint",
    "hookimpl",
    "load_corpus",
    "load_language_model",
    "make_scorer",
    "prepare_models",
    "response_logits",
    "run",
    "unlearn",
]

if not TYPE_CHECKING:  # a type checker would otherwise accept any name

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            value: Any = _version()
        elif name in _EXPORTS:
            value = getattr(importlib.import_module(_EXPORTS[name]), name)
        else:
            from deattrib.errors import did_you_mean

            raise AttributeError(f"module 'deattrib' has no attribute {name!r}.{did_you_mean(name, _EXPORTS)}")
        globals()[name] = value
        return value


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("deattrib")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
