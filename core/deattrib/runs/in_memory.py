"""Unlearning in memory: a corpus and a model in, an unlearned model out, no files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.inputs import CorpusLike, as_corpus, as_language_model
from deattrib.attribution.plugins import PluginRegistry
from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.policy import Policy
from deattrib.models.threads import one_thread_if_small
from deattrib.runs.config import build_config
from deattrib.runs.session import Session


@dataclass(frozen=True, eq=False)
class Unlearned:
    """The result of `unlearn`.

    Attributes:
        model: the unlearned model, frozen, adapter merged in.
        policy: the policy itself: backbone, adapter and value head.
        attributor: the fitted, calibrated reward.
        history: figures of each step.
    """

    model: LanguageModel
    policy: Policy
    attributor: Attributor
    history: list[dict[str, float]] = field(default_factory=list)


def unlearn(
    corpus: CorpusLike,
    model: nn.Module,
    tokenizer: Any,
    *,
    forget: int | str | Sequence[str] | None = None,
    reward: Any = None,
    base: nn.Module | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    registry: PluginRegistry | None = None,
) -> Unlearned:
    """Forget the corpus' forget owners by PPO on an attribution reward.

    Plugins observe it like a run with a folder.

    Args:
        corpus: rows and their owners: a `Corpus`, a JSONL file, or dicts with its columns.
        model: the original causal LM, trained on all owners; it is copied, not changed.
        tokenizer: its tokenizer.
        forget: who is to be forgotten, or how many (the last owners); None: as a `Corpus` says. A file or dicts need it.
        reward: a scorer's name, settings, class or object, or a list of those; None: as the settings say (`classifier`).
        base: the model before it was trained on the owners, where the corpus has no names.
        seed: of everything random; None: as the settings say (0).
        settings: the same tree as a config file, e.g. {"ppo": {"steps": 40}} or {"method": "npo"}. What counts is what the loop
            and its reward need: of `model` only `template` and `max_prompt_tokens`; not `corpus`, `plugins`, `checkpoints`,
            `evaluation`, `referee.scorer` and `attacks`, since nothing is read, written or judged.
        registry: where names of scorers and methods are looked up; None: everything installed.

    Raises:
        DeattribError: a name, a setting, the corpus or the model cannot be used, or a scorer cannot be calibrated; the kind of
            error says which (ConfigError also where nobody is named to be forgotten).
    """
    named = isinstance(reward, (str, Mapping)) or (
        isinstance(reward, list) and all(isinstance(r, (str, Mapping)) for r in reward)
    )
    said = {"seed": seed} if seed is not None else {}
    config = build_config(data={**(settings or {}), **said, **({"reward": reward} if named else {})})
    if forget is None and not isinstance(corpus, Corpus):
        raise ConfigError("A file or dicts do not say whom to forget: give unlearn(..., forget=) a name, names, or a number.")
    corpus = as_corpus(corpus, forget)
    codec = Codec(tokenizer, template=config.model.template, max_prompt_tokens=config.model.max_prompt_tokens)
    original = as_language_model(model, codec, name="original")
    below = as_language_model(base, codec, name="base") if base is not None else None
    session = Session(config, corpus, original, below, registry=registry or PluginRegistry())
    if session.without_names:
        warnings.warn(session.without_names, stacklevel=2)
    return _observed(session, model, None if named or reward is None else reward)


def _observed(session: Session, model: nn.Module, reward: Any) -> Unlearned:
    """Reward and loop, told to plugins; `reward`: objects in place of what the config names."""
    registry, plain = session.registry, session.config.plain()
    history: list[dict[str, float]] = []
    metrics: dict[str, Any] | None = None
    try:
        _tell(registry, "run_started", folder=None, config=plain if reward is None else {**plain, "reward": _named(reward)})
        with one_thread_if_small(model) as spare:
            attributor = session.fit_reward(reward)
            unlearner = session.make_unlearner(attributor, ahead=spare)
            for step in unlearner:
                history.append(dict(step.figures))
                _tell(registry, "step_finished", step=step.number, figures=dict(step.figures))
        metrics = {}  # finished, with nothing evaluated
    finally:
        _tell(registry, "run_finished", folder=None, metrics=metrics)
    return Unlearned(unlearner.policy.language_model(name="unlearned"), unlearner.policy, attributor, history)


def _tell(registry: PluginRegistry, hook: str, **arguments: Any) -> None:
    for message in registry.notify(hook, **arguments):
        warnings.warn(message, stacklevel=4)  # where `unlearn` was called


def _named(reward: Any) -> Any:
    """A reward in plain values: a class or an object by its name."""
    if isinstance(reward, (list, tuple)):
        return [_named(one) for one in reward]
    return reward if isinstance(reward, (str, Mapping)) else getattr(reward, "name", str(reward))
