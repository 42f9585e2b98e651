"""Attacks on the models of a run: chosen by name, run one by one, kept by content where the model is frozen.

An attack that fails costs its figure and nothing else: the entry says why. Its model is checked by fingerprint after each
attack; one that was changed is attacked no further, since every later figure would be of another model.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from deattrib.attacks.base import Attack, AttackResult, AttackSubject
from deattrib.attribution.choice import Chosen, choose
from deattrib.attribution.loading import describe
from deattrib.attribution.plugins import PluginRegistry
from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError, DeattribError, PluginError
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.models.language_model import LanguageModel, fingerprint
from deattrib.models.randomness import random_state_kept
from deattrib.runs.atomic import atomic_write_json
from deattrib.runs.kept import DIGEST, written_if_possible
from deattrib.runs.keys import cache_key, digest_of
from deattrib.runs.listener import SayStage

SCHEMA = 2  # 2: bfloat16 models are relearnt in mixed precision
NAMES = ("original", "oracle", "oracle_second", "unlearned")
Results = dict[str, dict[str, dict[str, Any]]]


def choose_attacks(specs: Sequence[str | Mapping[str, Any]], registry: PluginRegistry) -> list[Chosen[Attack]]:
    """The attacks called, or named by ``file.py:Class`` or ``module:Class``; a mapping adds settings to the `name`.

    Raises:
        PluginError: unknown (with close names), disabled, failed, or not derived from `deattrib.Attack`.
        ConfigError: a setting is unknown or has a wrong value, or one attack is named twice.
    """
    chosen: list[Chosen[Attack]] = []
    for spec in specs:
        item = choose("attack", spec, registry, base=Attack, public="Attack", example="{name: sampling, samples: 32}")
        if any(item.name == earlier.name for earlier in chosen):
            raise ConfigError(f"Attack {item.name!r} is named twice in `attacks`, and results go by name: keep one.")
        chosen.append(item)
    return chosen


def attack_models(
    attacks: Sequence[Chosen[Attack]],
    models: Mapping[str, LanguageModel | None],
    corpus: Corpus,
    settings: EvaluationSettings,
    *,
    seed: int,
    weights: Mapping[str, str],
    cache: Path,
    say: SayStage = lambda stage, detail: None,
) -> Results:
    """Every attack on every model that is there: model -> attack -> a JSON-ready entry.

    Args:
        weights: fingerprints of the frozen models, whose results are kept in `attacks/` of the cache.
    """
    found: Results = {}
    for name in NAMES:
        model = models.get(name)
        if model is None:
            continue
        subject = AttackSubject(name, model, corpus, settings, seed)
        before, changed_by = _weights(model), ""
        found[name] = {}
        for attack in attacks:
            if changed_by:
                found[name][attack.name] = _entry(attack, None, 0.0, f"not run: attack {changed_by!r} changed the model")
                continue
            path = cache / "attacks" / f"{_key(attack, subject, weights[name])}.json" if name in weights else None
            kept = _read(path)
            if kept is None:
                say("attack", f"{attack.name} on {name}")
                kept = _run(attack, subject)
                if _weights(model) != before:
                    changed_by = attack.name
                    reason = f"{attack.who} changed the weights of {name!r}: what changes weights works on subject.copy()."
                    kept = _entry(attack, None, kept["seconds"], reason)
                elif path is not None and kept["error"] is None:
                    _store(path, kept)
            found[name][attack.name] = kept
    return found


def _store(path: Path, entry: dict[str, Any]) -> None:
    written_if_possible(path, lambda: atomic_write_json(path, {**entry, DIGEST: digest_of(entry)}))


def _run(attack: Chosen[Attack], subject: AttackSubject) -> dict[str, Any]:
    """One entry, whatever happens; the global random state is as before."""
    start = time.perf_counter()
    try:
        with random_state_kept():
            torch.manual_seed(subject.seed)
            result = attack.cls(attack.params).run(subject)
        return _entry(attack, result, time.perf_counter() - start)
    except (Exception, SystemExit) as error:
        text = str(error) if isinstance(error, DeattribError) else describe(error)
        return _entry(attack, None, time.perf_counter() - start, f"{attack.who}: {text}")


def _entry(attack: Chosen[Attack], result: AttackResult | None, seconds: float, error: str | None = None) -> dict[str, Any]:
    """What goes into metrics.json for one attack on one model.

    Raises:
        PluginError: what came back is no result, or has something else than numbers in it.
    """
    if result is not None and not isinstance(result, AttackResult):
        raise PluginError(f"run() returned {type(result).__name__}: expected an AttackResult.")
    result = result or AttackResult(None)
    return {
        "figure": _number(result.figure, "figure"),
        "interval": None if result.interval is None else [_number(end, "interval") for end in result.interval],
        "unit": attack.cls.unit,
        "what": result.what or attack.cls.what,
        "x": attack.cls.x,
        "curve": None if result.curve is None else _curve(result.curve, "curve"),
        "curves": {str(name): _curve(curve, name) for name, curve in result.curves.items()},
        "more": {str(name): _number(value, name) for name, value in result.more.items()},
        "settings": attack.params.model_dump(mode="json"),
        "source": attack.cls.source,
        "seconds": round(seconds, 2),
        "error": error,
    }


def _number(value: Any, what: str) -> float | None:
    """A plain float; None for None, NaN and infinities."""
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise PluginError(f"its {what} has {value!r} in it: expected a number or None.") from error
    return number if math.isfinite(number) else None


def _curve(points: Any, what: str) -> list[list[float | None]]:
    try:
        pairs = [(x, y) for x, y in points]
    except (TypeError, ValueError) as error:
        raise PluginError(f"its {what} is {str(points)[:80]}: expected pairs (x, y).") from error
    return [[_number(x, what), _number(y, what)] for x, y in pairs]


def _weights(model: LanguageModel) -> str:
    with model.active() as module:
        return fingerprint(module)


def _key(attack: Chosen[Attack], subject: AttackSubject, weights: str) -> str:
    content = {
        "schema": SCHEMA,
        "attack": [attack.name, str(attack.origin), attack.params.model_dump(mode="json")],
        "weights": weights,
        "corpus": subject.corpus.fingerprint(),
        # The batch size is part of it: it decides which random number a sampled token gets.
        "settings": subject.settings.model_dump(mode="json", exclude={"metrics", "attribution"}),
        "seed": subject.seed,
    }
    return cache_key(content, subject.model)


def _read(path: Path | None) -> dict[str, Any] | None:
    """A kept entry; None where there is none, or it cannot be read."""
    if path is None or not path.is_file():
        return None
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return entry if isinstance(entry, dict) and entry.pop(DIGEST, None) == digest_of(entry) else None
