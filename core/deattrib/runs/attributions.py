"""Calibrated attribution of the greedy answers by scorers beside the referee: a scorer can be gamed, several less easily.

Every one is fitted as the referee is (its seed, its half of the rows for proxies, always calibrated), the reward's own scorer
excepted, which is taken as it was fitted for the reward and marked. One that cannot be fitted or fails costs its own column.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.loading import describe
from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.scorer import Rows
from deattrib.errors import ConfigError, DeattribError
from deattrib.evaluation.arrays import Array
from deattrib.evaluation.rows import EvaluatedRows, Evaluation
from deattrib.models.language_model import Codec
from deattrib.runs.session import Session

Spec = str | Mapping[str, Any]
Wanted = Sequence[Spec] | Literal["all", "none"]


def attribute(attributor: Attributor, codec: Codec, part: EvaluatedRows) -> Tensor:
    """Attribution of each greedy answer to its row's owner: [N]. An answer without text is attributed to nobody."""
    values = []
    for start in range(0, len(part), 64):
        chosen = part.rows[start : start + 64]
        texts = part.greedy[start : start + 64]
        rows = Rows.from_texts(codec, [row.prompt for row in chosen], texts, [row.owner for row in chosen])
        attribution = attributor.attribution(rows)
        values.append(torch.where(torch.tensor([bool(text) for text in texts]), attribution, torch.zeros(())))
    return torch.cat(values) if values else torch.zeros(0)


def chosen_scorers(wanted: Wanted, registry: PluginRegistry) -> dict[str, Spec]:
    """Key -> spec of the scorers that are asked for; "all": every one that is ready, but no control and none that retrains.

    Raises:
        PluginError, ConfigError: a name or a setting is wrong, before anything is computed.
    """
    if wanted == "none":
        return {}
    specs: Sequence[Spec]
    if wanted == "all":
        kinds = {name: registry.scorer(name).fidelity for name in registry.names()}
        specs = [name for name, fidelity in kinds.items() if fidelity not in ("exact", "control")]
    else:
        specs = [spec for spec in wanted if isinstance(spec, (str, Mapping))]
    keys: dict[str, Spec] = {}
    for spec in specs:
        registry.make(spec)  # a wrong name or setting is found here
        key = scorer_key(spec)
        if key in keys:
            raise ConfigError(f"evaluation.attribution names {key!r} twice: name it once.")
        keys[key] = spec
    return keys


def scorer_key(spec: Spec) -> str:
    """'name', or 'name:setting=value' where settings are given, as `deattrib audit --scorers` writes them."""
    if isinstance(spec, str):
        return spec.rpartition(":")[2]
    settings = [f"{key}={value}" for key, value in spec.items() if key not in ("name", "weight")]
    return ":".join([str(spec["name"]).rpartition(":")[2], *settings])


def other_attributions(
    session: Session,
    evaluations: Mapping[str, Evaluation],
    codec: Codec,
    reward: Attributor,
    known: Mapping[str, Array],
    *,
    stage: Callable[[str, str], None],
    warn: Callable[[str], None],
) -> tuple[dict[str, dict[str, Array | None]], dict[str, Any]]:
    """Attribution of each row's greedy forget answers by every scorer that `evaluation.attribution` names.

    Args:
        known: what the reward itself says, by row.

    Returns:
        row -> scorer -> [N] or None where it failed; scorer -> what `metrics.json` says of it.
    """
    values: dict[str, dict[str, Array | None]] = {name: {} for name in evaluations}
    told: dict[str, Any] = {}
    rewards = session.config.rewards
    own = {scorer_key(spec).split(":")[0] for spec in rewards}
    for key, spec in chosen_scorers(session.config.evaluation.attribution, session.registry).items():
        stage("evaluate", f"attribution by {key}")
        start, report, error = time.perf_counter(), reward.report(), None
        try:
            if len(rewards) == 1 and spec == rewards[0]:
                for name in evaluations:
                    values[name][key] = known[name]
            else:
                judge = session.fit_judge(spec)
                try:
                    report = judge.report()
                    for name, evaluation in evaluations.items():
                        values[name][key] = np.asarray(attribute(judge, codec, evaluation.forget).numpy(), dtype=np.float64)
                finally:
                    judge.close()
        except Exception as failure:
            error = str(failure) if isinstance(failure, DeattribError) else describe(failure)
            origin = session.registry.origin(type(session.registry.make(spec)))
            warn(f"Scorer {key!r} ({origin}) cannot judge the answers, its attributions are empty: {error}")
            report = []
            for name in evaluations:
                values[name][key] = None
        seconds = round(time.perf_counter() - start, 2)
        told[key] = {
            "reward": key.split(":")[0] in own,
            "seconds": seconds,
            "error": error,
            "scorer": report[0] if report else None,
        }
    return values, told
