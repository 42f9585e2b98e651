"""The work and the memory of a run's stages, from its settings, its rows and the sizes of its model.

Counted: making the models, sampling for the calibration, classifiers of causal LMs, the loop, the evaluation of every row of
the table.
Not counted: other scorers, metrics on top, attacks, loading and saving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deattrib.corpus.types import Corpus
from deattrib.evaluation.rows import evaluation_rows
from deattrib.ppo.settings import PPOSettings
from deattrib.runs.config import RunConfig
from deattrib.runs.dry_cost import ADAM, Arithmetic, Work
from deattrib.runs.session import classifier_backbone, default_referee

MERGED = "policy merged into a copy (evaluation)"


@dataclass(frozen=True, slots=True)
class Lengths:
    """Mean tokens of a prompt with its template and of an answer with its end; the longest answer; and who counted."""

    prompt: float
    response: float
    longest: int
    source: str


@dataclass(frozen=True, slots=True)
class Copies:
    """Models in memory beside the policy: whether a base is there, how many oracles, how many are made."""

    base: bool
    oracles: int
    made: int


def copies_of(config: RunConfig) -> Copies:
    """What `runs/prepare.py` would load or make."""
    model = config.model
    base = model.base is not None or model.path is None
    oracles = 1 if model.oracle else (model.oracles if base else 0)
    return Copies(base, oracles, (0 if model.path else 1) + (0 if model.oracle else oracles))


def causal(specs: Sequence[str | Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Settings of those scorers that are classifiers on a causal LM of their own."""
    return [spec for spec in specs if isinstance(spec, Mapping) and classifier_backbone(spec) == "causal"]


def judges_of(config: RunConfig) -> list[str | dict[str, Any]]:
    """Reward and referee, all that is fitted."""
    return [*config.rewards, config.referee.scorer or default_referee(config.reward)]


def work(
    config: RunConfig, settings: PPOSettings, corpus: Corpus, cost: Arithmetic, lengths: Lengths, *, own_loss: bool = False
) -> dict[str, Work]:
    """Stage -> work.

    Args:
        settings: the loop's, as the method settles them.
        own_loss: the method replaces the engine's loss.
    """
    p, t = lengths.prompt, lengths.response
    recipe = config.model.training
    full = Arithmetic(cost.sizes, cost.width, cost.mixed, full=not recipe.lora_rank)
    making = full.trained(recipe.batch_size, p, t) * (recipe.steps_on(len(corpus.train)) * copies_of(config).made)
    if config.model.path is None and config.model.base is None:
        base = config.model.base_training
        once = Arithmetic(cost.sizes, cost.width, full=True).trained(base.batch_size, p, t)
        making = making + once * base.steps_on(len(corpus.background))
    fit = Work()
    if config.calibration.enabled:
        new = min(config.calibration.max_new_tokens, lengths.response)
        fit = cost.decoding(2 * config.calibration.rows, p, new, batch=config.calibration.rows)
    for spec in causal(judges_of(config)):
        fit = fit + cost.trained(len(corpus.train), 1, t) * float(spec.get("epochs", 12))
    return {
        "make models": making,
        "fit scorers": fit,
        "unlearn": step_work(config, settings, cost, lengths, own_loss=own_loss) * settings.steps_on(len(corpus.forget)),
        "evaluate": _evaluation(config, corpus, cost, lengths) * (2 + copies_of(config).oracles),
    }


def step_work(config: RunConfig, settings: PPOSettings, cost: Arithmetic, lengths: Lengths, *, own_loss: bool = False) -> Work:
    """One rollout batch and its updates; of a loss that is not the engine's, one update on forget and on retain rows.

    That loss is taken to ask the original model once as well, which some do not.
    """
    p, t = lengths.prompt, lengths.response
    if own_loss:
        rows = settings.batch_size + settings.retain.batch_size
        return cost.forward(rows, p, t) + cost.trained(rows, p, t)
    new = min(t, settings.max_new_tokens)
    total = Work()
    if settings.policy_weight > 0:
        rows = settings.batch_size
        total = cost.decoding(rows, p, new, batch=rows) + cost.forward(rows, p, new, adapter=True)
        stale, refers = settings.refresh == "epoch", settings.reward.kl > 0 and settings.reward.reference != "none"
        total = total + cost.forward(rows, p, new) * (int(stale) + int(refers) + len(causal(config.rewards)))
        total = total + cost.trained(rows, p, new) * settings.epochs
    if settings.retain.weight > 0:
        rows = settings.retain.batch_size
        total = total + (cost.forward(rows, p, t) + cost.trained(rows, p, t)) * settings.updates
    if settings.anchor.hinge > 0 or settings.anchor.kl > 0:
        rows, models = settings.anchor.batch_size, 2 if settings.anchor.towards == "both" else 1
        total = total + (cost.forward(rows, p, t) * models + cost.trained(rows, p, t)) * settings.updates
    return total


def _evaluation(config: RunConfig, corpus: Corpus, cost: Arithmetic, lengths: Lengths) -> Work:
    """Greedy answers and the likelihoods of right, reworded and wrong ones, for one model."""
    total = Work()
    for name, rows in evaluation_rows(corpus, config.evaluation).items():
        ratios = (
            0 if name == "retain_phrasings" else sum(len(row.wrong_responses) + bool(row.paraphrase_response) for row in rows)
        )
        new = min(config.evaluation.max_new_tokens, lengths.response)
        total = total + cost.decoding(len(rows), lengths.prompt, new, batch=config.evaluation.batch_size)
        total = total + cost.forward(len(rows) + ratios, lengths.prompt, lengths.response)
    return total


def memory(
    config: RunConfig, settings: PPOSettings, cost: Arithmetic, lengths: Lengths, *, own_loss: bool = False
) -> dict[str, float]:
    """Part -> bytes, all that is held in the loop at once, and `MERGED`, which the evaluation holds on top."""
    sizes, copies = cost.sizes, copies_of(config)
    longest = lengths.prompt + settings.max_new_tokens
    batches = [(min(settings.minibatch_size, settings.batch_size), longest, float(settings.max_new_tokens))]
    if settings.policy_weight == 0:
        batches = []
    taught = (settings.retain.batch_size, lengths.prompt + lengths.response, lengths.response)
    anchored = (settings.anchor.batch_size, lengths.prompt + lengths.response, lengths.response)
    if own_loss:  # both parts' graphs are there until the update
        rows = settings.batch_size + settings.retain.batch_size
        batches = [(rows, lengths.prompt + lengths.response, lengths.response)]
    batches += [taught] * (settings.retain.weight > 0) + [anchored] * (settings.anchor.hinge > 0 or settings.anchor.kl > 0)
    width = cost.trained_width
    own = 0 if cost.full else sizes.adapter
    return {
        "weights of the policy": float(cost.weights),
        "original model as loaded": float(cost.weights * cost.full),  # with an adapter it is the policy's own weights
        "base model": float(cost.weights * copies.base),
        "oracles": float(cost.weights * copies.oracles),
        "adapter and value head": float((own + sizes.value_head) * width),
        "critic of its own": float(sizes.critic * width),
        "gradients": float(sizes.trained * width),
        "optimiser (AdamW)": float(ADAM * sizes.trained * width),
        "reference: frozen copies": float((cost.weights if cost.full else 0) + settings.keeps_old * sizes.adapter * width),
        "activations of one update": max((cost.activations(*batch) for batch in batches), default=0.0),
        "key/value cache": cost.cache(settings.batch_size, longest) if settings.policy_weight > 0 else 0.0,
        "classifiers (causal LM)": float(len(causal(judges_of(config))) * cost.weights),
        MERGED: float(cost.weights),
    }
