"""`deattrib run --dry-run`: what a run would take, without weights and without writing anything.

Config, scorers, method and data are checked as by a run; the tokenizer is loaded where it is within reach, the model is
made on the meta device from its config. What cannot be reached is estimated, and said.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from deattrib.corpus.settings import load_corpus
from deattrib.corpus.types import Corpus, Example
from deattrib.errors import first_line
from deattrib.methods.base import Method
from deattrib.methods.choose import choose_method, method_name
from deattrib.ppo.settings import PPOSettings
from deattrib.runs.config import RunConfig
from deattrib.runs.dry_cost import Arithmetic
from deattrib.runs.dry_model import Sizes, sizes_of
from deattrib.runs.dry_open import open_settings
from deattrib.runs.dry_rate import REACHED, rate_of
from deattrib.runs.dry_stages import MERGED, Lengths, copies_of, memory, step_work, work
from deattrib.runs.identity import registry_of
from deattrib.runs.pipeline import check_scorers, reward_name
from deattrib.runs.session import settle_references

SCHEMA = 1
COUNTED = 200  # rows that lengths are taken from, at most
GIGABYTE = 1e9
WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}
CHARACTERS = 4.0  # per token of English, where there is no tokenizer
TEMPLATE = 20  # tokens around a prompt, likewise


def dry_run(config: RunConfig, *, on: str | None = None) -> dict[str, Any]:
    """The plan of a run: plain values, ready for JSON.

    Args:
        on: the device of the time estimate; see `deattrib.runs.dry_rate.rate_of`.

    Raises:
        DeattribError: a setting, a scorer, the method or the data cannot be used; a model out of reach is no error.
    """
    check_scorers(config)
    corpus = load_corpus(config.corpus, config.seed)
    codec, told = _codec(config, corpus)
    lengths = _lengths(corpus, codec)
    sizes, source = sizes_of(config.model, config.policy, codec.tokenizer if codec is not None else None)
    method = choose_method(config.method, registry_of(config))
    settings = method.cls.settle(config.ppo, method.params)
    settings = settle_references(settings, corpus, based=bool(config.model.base) or not config.model.path)
    notes = [told] if told else []
    if sizes is None:
        notes.append(f"{source}: parameters, memory and time are left out.")
    elif not sizes.exact:
        notes.append(f"{source}.")
    notes += _limits(config)
    plan: dict[str, Any] = {
        "schema": SCHEMA,
        "name": config.name,
        "preset": config.preset,
        "reward": reward_name(config),
        "method": method_name(config.method),
        "corpus": _corpus(corpus, lengths),
        "steps": _steps(config, settings, corpus),
        "model": None,
        "parameters": None,
        "memory": None,
        "time": None,
        "open": open_settings(config),
        "notes": notes,
    }
    if sizes is not None:
        own_loss = issubclass(method.cls, Method)
        plan |= _estimates(config, settings, corpus, sizes, lengths, on, own_loss=own_loss)
        if own_loss:
            notes.append(
                f"{method.cls.name}: a step is counted as an update on forget and retain rows, the original asked once."
            )
    return plan


def _codec(config: RunConfig, corpus: Corpus) -> tuple[Any, str]:
    from deattrib.models.loading import load_tokenizer, make_codec
    from deattrib.runs.maker import scratch_tokenizer

    source = config.model.path or config.model.base
    if source is None:
        return make_codec(scratch_tokenizer(corpus, config.model), config.model), ""
    try:
        return make_codec(load_tokenizer(source, config.model), config.model), ""
    except Exception as error:  # whatever keeps it out of reach; a run would say so, a dry run goes on without
        reason = first_line(error).rstrip(".")
        return None, f"{reason}: lengths are guessed, {CHARACTERS:g} characters a token and {TEMPLATE} tokens of template."


def _lengths(corpus: Corpus, codec: Any) -> Lengths:
    rows = _some(corpus.train, COUNTED)
    if codec is not None:
        prompts = [len(codec.prompt(row.prompt)) for row in rows]
        answers = [len(codec.response(row.response)) for row in rows]
    else:
        prompts = [round(len(row.prompt) / CHARACTERS) + TEMPLATE for row in rows]
        answers = [round(len(row.response) / CHARACTERS) + 1 for row in rows]
    how = "counted by the model's tokenizer" if codec is not None else "guessed"
    return Lengths(fmean(prompts), fmean(answers), max(answers), f"{how}, on {len(rows)} rows")


def _some(rows: Sequence[Example], most: int) -> Sequence[Example]:
    """Drawn, not every n-th: corpora ask all owners alike, and n may be the questions of one."""
    return rows if len(rows) <= most else random.Random("lengths").sample(list(rows), most)


def _corpus(corpus: Corpus, lengths: Lengths) -> dict[str, Any]:
    return {
        "name": corpus.name,
        "owners": len(corpus.owners),
        "forget_owners": len(corpus.forget_owners),
        "rows": len(corpus.train),
        "forget_rows": len(corpus.forget),
        "world_rows": len(corpus.world),
        "identities": corpus.has_identities,
        "prompt_tokens": round(lengths.prompt, 1),
        "response_tokens": round(lengths.response, 1),
        "longest_response": lengths.longest,
        "tokens_counted": lengths.source,
    }


def _steps(config: RunConfig, settings: PPOSettings, corpus: Corpus) -> dict[str, Any]:
    steps = settings.steps_on(len(corpus.forget))
    made = copies_of(config).made
    return {
        "unlearn": steps,
        "updates": steps * settings.updates,
        "rollouts": steps * settings.batch_size if settings.policy_weight > 0 else 0,
        "models_made": made,
        "steps_per_model": config.model.training.steps_on(len(corpus.train)) if made else 0,
    }


def _estimates(
    config: RunConfig,
    settings: PPOSettings,
    corpus: Corpus,
    sizes: Sizes,
    lengths: Lengths,
    on: str | None,
    *,
    own_loss: bool,
) -> dict[str, Any]:
    half = config.model.dtype != "float32" or settings.bf16
    cost = Arithmetic(
        sizes,
        WIDTHS[config.model.dtype],
        settings.bf16,
        full=config.policy.adapter == "full",
        recompute=config.policy.checkpointing,
    )
    parts = memory(config, settings, cost, lengths, own_loss=own_loss)
    loop = sum(value for name, value in parts.items() if name != MERGED)
    rate = rate_of(on, half=half)
    amounts = work(config, settings, corpus, cost, lengths, own_loss=own_loss)
    stages = {name: rate.seconds(amount) for name, amount in amounts.items()}
    step = rate.seconds(step_work(config, settings, cost, lengths, own_loss=own_loss))
    return {
        "model": {"source": sizes.source, "exact": sizes.exact, "dtype": config.model.dtype, "layers": sizes.layers,
                  "hidden": sizes.hidden, "vocabulary": sizes.vocabulary},
        "parameters": {
            "total": sizes.parameters,
            "frozen": 0 if cost.full else sizes.parameters,
            "trainable": sizes.trained,
            "adapter": sizes.adapter,
            "value_head": sizes.value_head,
            "critic": sizes.critic,
        },
        "memory": {
            "parts_gb": {name: round(value / GIGABYTE, 3) for name, value in parts.items()},
            "loop_gb": round(loop / GIGABYTE, 3),
            "peak_gb": round(max(loop, _evaluating(parts)) / GIGABYTE, 3),
        },
        "time": {
            "device": rate.name,
            "reached": REACHED,
            "stages_seconds": {name: round(value, 1) for name, value in stages.items()},
            "step_seconds": round(step, 3),
            "total_seconds": round(sum(stages.values()), 1),
        },
    }  # fmt: skip


def _evaluating(parts: dict[str, float]) -> float:
    """What the evaluation holds: all models and the merged policy, no activations of an update."""
    return sum(value for name, value in parts.items() if name not in ("activations of one update", "key/value cache"))


def _limits(config: RunConfig) -> list[str]:
    """What the estimate leaves out in this run."""
    named = {spec if isinstance(spec, str) else str(spec["name"]) for spec in config.rewards}
    other = sorted(named - {"classifier", "none", "constant", "random"})
    left = [f"scorer{'s' if len(other) > 1 else ''} {', '.join(other)}"] if other else []
    left += ["metrics" if config.evaluation.metrics is None or config.evaluation.metrics else ""]
    left += [f"{len(config.attacks)} attacks" if config.attacks else ""]
    return [f"Not in the time: {', '.join(item for item in left if item)}, loading and saving."]
