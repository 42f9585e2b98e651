"""`deattrib audit`: every scorer next to exact attribution, on the models of a config or of a run.

Nothing is optimised here. What is retrained goes into the cache of made models, so that an audit that was stopped, or that
is asked for one scorer more, only trains what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deattrib.attribution.context import make_context
from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.retraining import Retrainer
from deattrib.attribution.witnesses import gather_witnesses
from deattrib.audit.figures import Yardstick, scorer_figures, truth_figures
from deattrib.audit.page import render
from deattrib.audit.probes import Probes, gather_probes
from deattrib.audit.settings import AuditSettings
from deattrib.audit.statistics import half_subsets
from deattrib.audit.subject import Measured, best_time, measure_scorer, timing_rows
from deattrib.audit.truth import Plan, check_budget, measure_truth
from deattrib.corpus.settings import load_corpus
from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError, DeattribError, RunError
from deattrib.models.language_model import LanguageModel
from deattrib.models.policy import Policy
from deattrib.runs.atomic import atomic_write_json, atomic_write_text
from deattrib.runs.checkpoint import checkpoint_step, load_checkpoint
from deattrib.runs.config import RunConfig
from deattrib.runs.identity import registry_of
from deattrib.runs.listener import SayStage
from deattrib.runs.manifest import library_versions
from deattrib.runs.prepare import Models, cache_folder, prepare_models

SCHEMA = 1
YARDSTICK = "retraining"


@dataclass(frozen=True, slots=True)
class AuditResult:
    """Where the audit is, and what audit.json holds."""

    folder: Path
    content: dict[str, Any]


def audit(
    config: RunConfig,
    scorers: Mapping[str, str | Mapping[str, Any]],
    settings: AuditSettings,
    *,
    output: Path,
    run: Path | None = None,
    cache: Path | None = None,
    say: SayStage = lambda stage, detail: None,
) -> AuditResult:
    """Measure scorers against retraining; writes audit.json and audit.html.

    Args:
        config: of the run whose corpus, models and calibration are used.
        scorers: label -> name, or mapping with settings.
        output: folder; made where it is missing.
        run: run folder with checkpoints of the policy, or None.

    Raises:
        RunError: there is an audit already, nothing can be retrained, or the budget is too small.
    """
    if (output / "audit.json").exists():
        raise RunError(f"There is an audit in {output} already; give another --output.")
    registry = _registry(config, scorers)
    cache, clock = cache or cache_folder(), _Clock()
    corpus = load_corpus(config.corpus, config.seed)
    models, retrainer = _models(config, corpus, cache, say)
    plan = make_plan(corpus, settings, config.seed)
    missing, minutes = check_budget(plan, retrainer, settings.max_minutes)
    say("plan", f"{len(plan.jobs())} models, {missing} to train, about {minutes:.1f} minutes")
    probes = _probes(config, settings, corpus, plan, models, run)
    clock.lap("prepare")
    truth = measure_truth(plan, retrainer, probes.rows, say=lambda text: say("exact", text))
    clock.lap("exact")
    yard = Yardstick(probes, truth, plan.owners, settings.bootstrap, config.seed + settings.seed)
    measured, refused = _measure(config, scorers, registry, corpus, models, yard, say)
    timed = timing_rows(probes)
    forward = best_time(lambda: models.original.token_log_probs(timed.batch)) / len(timed)
    clock.lap("scorers")
    entries = [_yardstick_entry(yard, plan), *(_entry(item, yard, forward) for item in measured), *refused]
    clock.lap("figures")
    content = {
        **_circumstances(config, corpus, settings, run),
        "owners": list(plan.owners),
        "forward_seconds": forward,
        "exact": truth_figures(yard),
        "scorers": entries,
        "rows": _rows(probes, yard),
        "seconds": clock.seconds,
    }
    output.mkdir(parents=True, exist_ok=True)
    atomic_write_json(output / "audit.json", content)
    atomic_write_text(output / "audit.html", render(content))
    return AuditResult(output, content)


def _registry(config: RunConfig, scorers: Mapping[str, str | Mapping[str, Any]]) -> PluginRegistry:
    """The plugins that the run may load; a misspelt scorer is told before anything is trained."""
    registry = registry_of(config)
    for spec in scorers.values():
        registry.make(spec)
    return registry


def _models(config: RunConfig, corpus: Corpus, cache: Path, say: SayStage) -> tuple[Models, Retrainer]:
    models = prepare_models(corpus, config.model, seed=config.seed, cache=cache, say=lambda text: say("models", text))
    if models.retrainer is None:
        raise RunError(
            "There is nothing to measure against: the original came from a path and what it was made from is not known. Give "
            "model.base (the model before it was trained on the owners) and model.training (the recipe)."
        )
    return models, models.retrainer


def _probes(config: RunConfig, settings: AuditSettings, corpus: Corpus, plan: Plan, models: Models, run: Path | None) -> Probes:
    return gather_probes(
        corpus,
        plan.owners,
        models.codec,
        _sources(config, models, run),
        rows=settings.rows,
        seed=config.seed + settings.seed,
        temperature=config.calibration.temperature,
        max_new_tokens=config.calibration.max_new_tokens,
    )


class _Clock:
    """Seconds of one stage after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._last = round(now - self._last, 2), now


def _circumstances(config: RunConfig, corpus: Corpus, settings: AuditSettings, run: Path | None) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "seed": config.seed,
        "corpus": {"name": corpus.name, "owners": len(corpus.owners), "fingerprint": corpus.fingerprint()},
        "forget_owners": list(corpus.forget_owners),
        "settings": settings.model_dump(mode="json"),
        "run": run.name if run is not None else None,
        "versions": library_versions(),
        "threads": torch.get_num_threads(),
    }


def make_plan(corpus: Corpus, settings: AuditSettings, seed: int) -> Plan:
    """Who is left out: forget owners first, then retain owners in the corpus' order."""
    everybody = corpus.owners
    if settings.owners > len(everybody):
        raise ConfigError(f"--owners is {settings.owners}, the corpus has {len(everybody)}.")
    return Plan(
        owners=(*corpus.forget_owners, *corpus.retain_owners)[: settings.owners],
        everybody=everybody,
        seeds=tuple(seed + number for number in range(settings.seeds)),
        half_seeds=tuple(seed + number for number in range(settings.subset_seeds)),
        trained_on=half_subsets(len(everybody), settings.subsets, seed + settings.seed)
        if settings.subsets
        else np.zeros((0, len(everybody)), dtype=np.bool_),
    )


def _sources(config: RunConfig, models: Models, run: Path | None) -> dict[tuple[str, int | None], Callable[[], LanguageModel]]:
    """Who is sampled from: the original, the policy at each checkpoint of the run, the oracle."""
    sources: dict[tuple[str, int | None], Callable[[], LanguageModel]] = {("original", None): lambda: models.original}
    paths = sorted((run / "checkpoints").glob("step-*")) if run is not None else []
    if run is not None and not paths:
        raise RunError(f"{run} has no checkpoints to sample the policy from; leave the run out, or keep some.")
    for path in paths:
        sources["policy", checkpoint_step(path)] = lambda path=path: _policy(config, models, path)  # type: ignore[misc]
    if models.oracle is not None:
        oracle = models.oracle
        sources["oracle", None] = lambda: oracle
    return sources


def _policy(config: RunConfig, models: Models, path: Path) -> LanguageModel:
    policy = Policy(models.original.clone(), models.codec, config.policy, seed=config.seed)
    policy.load_state(load_checkpoint(path)["unlearner"]["policy"])
    return policy.language_model(name=path.name)


def _measure(
    config: RunConfig,
    scorers: Mapping[str, str | Mapping[str, Any]],
    registry: PluginRegistry,
    corpus: Corpus,
    models: Models,
    yard: Yardstick,
    say: SayStage,
) -> tuple[list[Measured], list[dict[str, Any]]]:
    """Scorers that could be measured, and entries for those that could not."""
    # Without a cache: what fitting takes is one of the figures.
    context = make_context(corpus, models.original, base=models.base, seed=config.seed, retrainer=models.retrainer)
    witnesses = gather_witnesses(context, config.calibration, owners=yard.owners)
    measured, refused = [], []
    for label, spec in scorers.items():
        say("scorer", label)
        try:
            measured.append(
                measure_scorer(
                    spec,
                    label=label,
                    registry=registry,
                    context=context,
                    probes=yard.probes,
                    owners=yard.owners,
                    witnesses=witnesses,
                    settings=config.calibration,
                    guarding=config.guard,
                    all_owners=bool(len(yard.truth.trained_on)),
                )
            )
        except DeattribError as error:
            refused.append({"name": label, "error": str(error)})
    return measured, refused


def _entry(item: Measured, yard: Yardstick, forward: float) -> dict[str, Any]:
    return {
        "name": item.name,
        "error": None,
        "fidelity": item.fidelity,
        "origin": item.origin,
        "notes": list(item.notes),
        "calibration": item.calibration,
        **scorer_figures(item.scores, item.everybody, item.attribution, yard),
        "cost": {
            "fit_seconds": item.fit_seconds,
            "seconds_per_response": item.seconds_per_response,
            "forwards": item.seconds_per_response / forward,
        },
        "scores": item.scores[np.arange(len(item.scores)), yard.column].tolist(),
    }


def _yardstick_entry(yard: Yardstick, plan: Plan) -> dict[str, Any]:
    """Exact attribution in the place of a scorer: what the other figures can be at most."""
    exact, share = yard.truth.exact, yard.share
    whole = len(plan.owners) == len(plan.everybody)
    everybody = exact[:, [plan.owners.index(owner) for owner in plan.everybody]] if whole else None
    return {
        "name": YARDSTICK,
        "error": None,
        "fidelity": "exact",
        "origin": "",
        "notes": [] if whole or not len(plan.trained_on) else ["no LDS: not every owner was left out"],
        "calibration": None,
        **scorer_figures(exact, everybody, None if np.isnan(share).any() else share, yard),
        "cost": None,
        "scores": yard.own.tolist(),
    }


def _rows(probes: Probes, yard: Yardstick) -> list[dict[str, Any]]:
    """The probes themselves, in the order of every scorer's `scores`."""
    return [
        {
            "kind": probes.kinds[number],
            "owner": row.owner,
            "step": probes.steps[number],
            "prompt": row.prompt,
            "response": row.response,
            "exact": float(yard.own[number]),
        }
        for number, row in enumerate(probes.rows)
    ]
