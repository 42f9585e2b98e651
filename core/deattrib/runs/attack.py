"""`deattrib attack`: attacks on the models of a finished run, after the fact.

Original and oracles come from the cache as in the run (or are made again), the unlearned model from the run's `adapter`
folder, which is what was evaluated. metrics.json stays as it is, to the byte: results go to `attacks.json` beside it,
and the page shows both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from deattrib.corpus.settings import load_corpus
from deattrib.errors import ModelError, RunError, first_line
from deattrib.models.language_model import LanguageModel
from deattrib.models.loading import apply_adapter, load_model
from deattrib.models.threads import one_thread_if_small
from deattrib.report import write_report
from deattrib.runs.atomic import atomic_write_json
from deattrib.runs.attacked import SCHEMA, attack_models, choose_attacks
from deattrib.runs.config import RunConfig
from deattrib.runs.folder import RunFolder
from deattrib.runs.identity import check_corpus, check_loaded, registry_of
from deattrib.runs.listener import SayStage
from deattrib.runs.manifest import library_versions
from deattrib.runs.prepare import Models, cache_folder, prepare_models
from deattrib.runs.validation import validate

ATTACKS_FILE = "attacks.json"


def attack(
    path: Path,
    specs: Sequence[str | Mapping[str, Any]] | None = None,
    *,
    cache: Path | None = None,
    say: SayStage = lambda stage, detail: None,
) -> dict[str, Any]:
    """Attack every model of a finished run; writes attacks.json and the page anew.

    Args:
        path: the run's folder.
        specs: attacks by name or as mappings with settings; None: all that are installed.

    Returns:
        the content of attacks.json: "rows" (model -> attack -> entry, as in metrics.json), seconds, versions. Attacks of an
        earlier call stay in it, unless they were named again.

    Raises:
        RunError: no finished run there, or in use.
        PluginError, ConfigError: an attack that is not there, or cannot be set like that.
    """
    cache = cache or cache_folder()
    with RunFolder.open(path) as folder:
        if folder.state != "finished" or not folder.metrics.is_file():
            raise RunError(f"The run in {path} is {folder.state}: only a finished run has models to attack. Finish it first.")
        config = validate(RunConfig, folder.config, source=str(path / "config.yaml"))
        registry = registry_of(config)
        attacks = choose_attacks(registry.names("attack") if specs is None else specs, registry)
        corpus = load_corpus(config.corpus, config.seed)
        check_corpus(folder, corpus)
        models = prepare_models(corpus, config.model, seed=config.seed, cache=cache, say=lambda text: say("models", text))
        check_loaded(folder, config, models, add=False)
        with one_thread_if_small(models.original.model):  # as a run does: sums in one order give the same figures
            found = attack_models(
                attacks,
                {
                    "original": models.original,
                    "oracle": models.oracle,
                    "oracle_second": models.oracle_second,
                    "unlearned": unlearned_model(path, config, models),
                },
                corpus,
                config.evaluation,
                seed=config.seed,
                weights=models.weights,
                cache=cache,
                say=say,
            )
        content = {
            "schema": SCHEMA,
            "seed": config.seed,
            "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint()},
            "rows": _merged(_earlier(path), found),
            "threads": torch.get_num_threads(),
            "versions": library_versions(),
        }
        atomic_write_json(path / ATTACKS_FILE, content)
        write_report(path)
        return content


def unlearned_model(path: Path, config: RunConfig, models: Models) -> LanguageModel:
    """What the run ended with: the adapter merged into a copy of the original, or the whole model.

    Raises:
        RunError: the folder has no adapter, or it does not fit the original.
    """
    adapter = path / "adapter"
    try:
        if config.policy.adapter == "full":
            module = load_model(str(adapter), config.model.model_copy(update={"gguf_file": None}))
        else:
            module = apply_adapter(models.original.clone(), str(adapter))
    except (OSError, ValueError, KeyError, RuntimeError, ModelError) as error:
        raise RunError(
            f"The unlearned model in {adapter} cannot be loaded ({first_line(error)}): the folder must be as the run left it."
        ) from error
    return LanguageModel(module, models.codec, name="unlearned")


def _earlier(path: Path) -> Mapping[str, Any]:
    """Results of an earlier call. Raises RunError where they cannot be read: they would be overwritten."""
    file = path / ATTACKS_FILE
    if not file.is_file():
        return {}
    try:
        rows: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"]
        figures = [entry.get("figure") for attacks in rows.values() for entry in attacks.values()]
        if all(figure is None or isinstance(figure, (int, float)) for figure in figures):
            return rows
        problem = "a figure is no number"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = repr(error)
    raise RunError(f"{file} is not what `deattrib attack` writes ({problem}). Remove it to make all attacks anew.")


def _merged(old: Mapping[str, Any], new: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Both, by model; the new one where both have an attack."""
    return {name: {**(old.get(name) or {}), **new.get(name, {})} for name in dict.fromkeys([*new, *old])}
