"""Evaluating any model with the corpus of a config or a run: what `deattrib evaluate` does.

The model may be ours or not: a run's own adapter, a PEFT adapter of somebody else's, a folder, a hub id. It goes through
`deattrib.runs.assessment`, as the models of a run do, with reward and referee fitted by the config's seeds: for a run's own
adapter every figure comes out as in its metrics.json. Original and oracle stand beside it as far as the config can have them;
without the original nothing is attributed, and everything else is measured all the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deattrib.corpus.settings import load_corpus
from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError, ModelError, RunError
from deattrib.runs.config import RunConfig, build_config
from deattrib.runs.folder import read_config
from deattrib.runs.listener import SayStage

if TYPE_CHECKING:
    from deattrib.attribution.plugins import PluginRegistry
    from deattrib.models.language_model import Codec, LanguageModel
    from deattrib.runs.prepare import Models

COMPARED = ("original", "oracle", "oracle_second")


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """What to evaluate, with what, beside what.

    Attributes:
        target: a config file, or the folder of a run.
        model: hub id or folder (also a PEFT adapter's); None: the run's unlearned adapter.
        adapter: folder or hub id of a PEFT adapter, on top of `model`, else of the original.
        name: of the row; None: "unlearned" for a run's own adapter, else "model".
        oracle: a model retrained without the forget owners, instead of the config's.
        metrics: names; None: as the config says. `attribution`: names, "all" or "none"; None likewise.
        overrides: settings as `--set` takes them. seed: of the run.
        output: a JSON file to write; it must not exist.
    """

    target: Path
    model: str | None = None
    adapter: str | None = None
    name: str | None = None
    oracle: str | None = None
    metrics: tuple[Any, ...] | None = None
    attribution: tuple[Any, ...] | str | None = None
    overrides: tuple[str, ...] = ()
    seed: int | None = None
    output: Path | None = None


def evaluate(
    request: EvaluateRequest, *, say: SayStage, warn: Callable[[str], None], cache: Path | None = None
) -> dict[str, Any]:
    """Evaluate a model beside original and oracle.

    Returns:
        JSON-ready: "schema", "name" of the model's row, "rows" as in metrics.json (None where there is no such model),
        "metrics", "attribution_scorers", "reward_scorer", "referee", "warnings", "corpus", "seed".

    Raises:
        DeattribError: a setting, name or file is wrong, or the model cannot be loaded.
    """
    if request.output is not None:
        _check_output(request.output)
    config, run = _config(request)
    name = request.name or ("unlearned" if run is not None and not (request.model or request.adapter) else "model")
    if name in COMPARED:
        raise ConfigError(f"--name {name!r} is the name of a row that the model is compared with: choose another one.")
    if run is None and not (request.model or request.adapter):
        raise ConfigError("Give --model, --adapter, or the folder of a run that has unlearned something.")

    from deattrib.runs.identity import registry_of
    from deattrib.runs.pipeline import check_scorers
    from deattrib.runs.prepare import cache_folder

    check_scorers(config)
    warnings: list[str] = []

    def tell(message: str) -> None:
        warnings.append(message)
        warn(message)

    content = _carry_out(request, config, run, name, registry_of(config), cache or cache_folder(), say, tell)
    content["warnings"] = warnings
    if request.output is not None:
        from deattrib.runs.atomic import atomic_write_json

        _check_output(request.output)
        atomic_write_json(request.output, content)
    return content


def _check_output(path: Path) -> None:
    if path.exists():
        raise RunError(f"{path} exists. Choose another --output.")
    if not path.parent.is_dir():
        raise RunError(f"Cannot write {path}: there is no folder {path.parent}. Make it, or choose another --output.")


def _config(request: EvaluateRequest) -> tuple[RunConfig, Path | None]:
    """The settings of a file or a run, with what the request says over them; and the run's folder."""
    run = request.target if request.target.is_dir() else None
    overrides = list(request.overrides)
    if request.oracle is not None:
        overrides.append(f"model.oracle={json.dumps(request.oracle, ensure_ascii=False)}")
    if run is not None:
        config = build_config(data=read_config(run), overrides=overrides, seed=request.seed)
        if request.model is None and request.adapter is None:
            _check_same_models(run, config)
    else:
        config = build_config(path=request.target, overrides=overrides, seed=request.seed)
    changes: dict[str, Any] = {}
    if request.metrics is not None:
        changes["metrics"] = list(request.metrics)
    if request.attribution is not None:
        changes["attribution"] = request.attribution if isinstance(request.attribution, str) else list(request.attribution)
    if changes:
        plain = config.evaluation.model_dump(mode="json") | changes
        config = config.model_copy(update={"evaluation": type(config.evaluation).model_validate(plain)})
    return config, run


def _check_same_models(run: Path, config: RunConfig) -> None:
    """Refuses the run's own adapter on top of another original than the run's. Raises ConfigError."""
    begun = build_config(data=read_config(run))
    for name in ("seed", "corpus", "model"):
        now, before = getattr(config, name), getattr(begun, name)
        if name == "model":  # oracles are only compared with, where models are computed changes none
            beside = {"oracle": None, "oracles": 0, "side_by_side": None, "device": "auto"}
            now, before = (value.model_copy(update=beside) for value in (now, before))
        if now != before:
            raise ConfigError(
                f"{name} is another one than that of {run}, whose adapter belongs on top of its own original: leave it as it "
                "is, or name a model with --model or --adapter."
            )


def _carry_out(
    request: EvaluateRequest,
    config: RunConfig,
    run: Path | None,
    name: str,
    registry: PluginRegistry,
    cache: Path,
    say: SayStage,
    warn: Callable[[str], None],
) -> dict[str, Any]:
    from deattrib.models.threads import one_thread_if_small
    from deattrib.runs.assessment import assess

    say("corpus", "")
    corpus = load_corpus(config.corpus, config.seed)
    models = _models(config, corpus, cache, say, warn)
    say("models", f"loading {request.model or request.adapter or f'the adapter of {run}'}")
    model = _load(request, config, run, name, models)
    beside: dict[str, LanguageModel | None] = {row: getattr(models, row) if models else None for row in COMPARED}
    if models is None and request.oracle is not None:
        beside["oracle"] = _alone(request.oracle, config, "oracle")
    first = models.original if models else model
    with one_thread_if_small(first.model) as spare:  # as a run does: sums in one order give the same figures
        judges = _judges(config, corpus, models, registry, cache, say) if models is not None else None
        assessment = assess(
            {**beside, name: model},
            corpus,
            config.evaluation,
            judges,
            weights=models.weights if models else {},
            base=models.base if models else None,
            registry=registry,
            cache=cache,
            stage=say,
            warn=warn,
            spare=spare,
        )
    content = {
        "schema": 1,
        "name": name,
        "model": _shown(request, run),
        "seed": config.seed,
        "corpus": {"name": corpus.name, "forget_owners": list(corpus.forget_owners), "fingerprint": corpus.fingerprint()},
        "rows": dict(assessment.rows),
        "metrics": assessment.metrics,
        "attribution_scorers": assessment.scorers,
        "reward_scorer": judges.reward.report() if judges else [],
        "referee": judges.referee.report() if judges else [],
    }
    if judges is not None:
        judges.reward.close()
        judges.referee.close()
    return content


def _models(config: RunConfig, corpus: Corpus, cache: Path, say: SayStage, warn: Callable[[str], None]) -> Models | None:
    """Original, base and oracles as the run has them; None where there is nothing to load or make the original from."""
    if not (config.model.path or config.model.base or corpus.background):
        warn(
            f"Corpus {corpus.name!r} has no background rows and the config names neither model.path nor model.base, so there "
            "is no original: the model is evaluated without one, and without attribution."
        )
        return None
    from deattrib.attribution.traces import seed_everything
    from deattrib.evaluation.rows import evaluation_rows
    from deattrib.runs.making import Questions
    from deattrib.runs.prepare import prepare_models

    seed_everything(config.seed)
    return prepare_models(
        corpus,
        config.model,
        seed=config.seed,
        cache=cache,
        say=lambda text: say("models", text),
        questions=Questions(evaluation_rows(corpus, config.evaluation), config.evaluation),
    )


def _judges(config: RunConfig, corpus: Corpus, models: Models, registry: PluginRegistry, cache: Path, say: SayStage) -> Any:
    from deattrib.runs.assessment import Judges
    from deattrib.runs.session import Session

    assert models.original is not None
    session = Session(config, corpus, models.original, models.base, registry=registry, cache=cache, retrainer=models.retrainer)
    say("scorer", "fitting the reward's scorer and the referee")
    return Judges(session, session.fit_reward(), session.fit_referee(), models.codec)


def _load(request: EvaluateRequest, config: RunConfig, run: Path | None, name: str, models: Models | None) -> LanguageModel:
    """The model of the request, frozen, with the run's codec where its tokenizer is the same."""
    from deattrib.models.language_model import LanguageModel
    from deattrib.models.loading import apply_adapter, is_adapter

    adapter, codec = request.adapter, models.codec if models else None
    if request.model is not None:
        model = _alone(request.model, config, name, codec)
        return LanguageModel(apply_adapter(model.model, adapter), model.codec, name=name) if adapter else model
    if adapter is None:
        assert run is not None
        folder = run / "adapter"
        if not folder.is_dir():
            raise RunError(f"The run in {run} has no adapter yet: let it finish, or give --model.")
        if not is_adapter(str(folder)):  # all weights were trained
            return _alone(str(folder), config, name, codec)
        adapter = str(folder)
    if models is None or models.original is None:
        raise ModelError(f"The adapter {adapter!r} needs a model to go on top of: give --model, or model.path in the config.")
    return LanguageModel(apply_adapter(models.original.clone(), adapter), models.codec, name=name)


def _alone(path: str, config: RunConfig, name: str, codec: Codec | None = None) -> LanguageModel:
    """A model by itself, with its own tokenizer; where that is the run's, with the run's codec."""
    from deattrib.models.language_model import LanguageModel
    from deattrib.models.loading import check_vocabulary, load_model, load_tokenizer, make_codec

    settings = config.model.model_copy(update={"gguf_file": None})
    own = make_codec(load_tokenizer(path, settings), settings)
    if codec is not None and codec.fingerprint() == own.fingerprint():
        own = codec
    module = load_model(path, settings)
    check_vocabulary(module, own, path)
    return LanguageModel(module, own, name=name)


def _shown(request: EvaluateRequest, run: Path | None) -> str:
    """What was evaluated, without the folders of this machine."""
    parts = [request.model, request.adapter] if request.model or request.adapter else [f"{run and run.name}/adapter"]
    return " + ".join(Path(part).name if Path(part).exists() else part for part in parts if part)
