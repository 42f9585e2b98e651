"""What a run leaves behind: metrics.json, rows.safetensors, answers.json, the adapter with its card, the page."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus
from deattrib.errors import ScorerError
from deattrib.evaluation import row_file
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.ppo.unlearner import Unlearner
from deattrib.report import write_report
from deattrib.runs.adapter import save_adapter
from deattrib.runs.assessment import Assessment, Judges, assess
from deattrib.runs.atomic import atomic_write_bytes, atomic_write_json
from deattrib.runs.attacked import attack_models, choose_attacks
from deattrib.runs.card import write_card
from deattrib.runs.config import RunConfig
from deattrib.runs.folder import RunFolder
from deattrib.runs.listener import Listener
from deattrib.runs.prepare import Models
from deattrib.runs.row_values import row_figures
from deattrib.runs.session import Session

SHOWN_RETAIN = 12
SHADED_AT_ONCE = 16  # a scorer may need a gradient per token


@dataclass(frozen=True, slots=True, eq=False)
class Ended:
    """A run whose loop is over: what it was asked, what it was given, and what came of it."""

    config: RunConfig
    corpus: Corpus
    models: Models
    session: Session
    unlearner: Unlearner
    reward: Attributor
    referee: Attributor


def write_outcome(
    folder: RunFolder, run: Ended, seconds: dict[str, float], listener: Listener, *, cache: Path, spare: bool = False
) -> dict[str, Any]:
    """Evaluate every model, attack it where asked, and write everything that people and programs read.

    Args:
        seconds: spent so far, by stage.
        spare: a second processor is free.
    """
    start = time.perf_counter()
    policy = run.unlearner.policy
    save_adapter(policy, folder.path / "adapter")
    models = {name: getattr(run.models, name) for name in ("original", "oracle", "oracle_second")}
    models["unlearned"] = policy.language_model(name="unlearned")
    assessment = assess(
        models,
        run.corpus,
        run.config.evaluation,
        Judges(run.session, run.reward, run.referee, run.models.codec),
        weights=run.models.weights,
        base=run.models.base,
        registry=run.session.registry,
        cache=cache,
        stage=listener.stage,
        spare=spare,
        warn=listener.warn,
    )
    spent = {**seconds, "evaluate": round(time.perf_counter() - start, 2)}
    if run.config.attacks:
        start = time.perf_counter()
        _attack(run, models, assessment, listener, cache)
        spent["attacks"] = round(time.perf_counter() - start, 2)
    metrics = {
        **_facts(run),
        "rows": assessment.rows,
        "metrics": assessment.metrics,
        "attribution_scorers": assessment.scorers,
        "warnings": [*assessment.warnings, *_masked(run)],
        "seconds": spent,
    }
    by_row = row_figures(assessment.evaluations, assessment.attributions, assessment.under_oracle)
    atomic_write_bytes(folder.path / row_file.NAME, row_file.to_bytes(by_row))
    atomic_write_json(folder.path / "answers.json", _answers(assessment, run.reward, run.models.codec, listener))
    folder.write_metrics(metrics)
    source = run.config.model.path or run.config.model.base
    write_card(folder.path / "adapter" / "README.md", run.config, run.corpus, metrics, model=source, codec=run.models.codec)
    write_report(folder.path)
    return metrics


def _attack(
    run: Ended, models: Mapping[str, LanguageModel | None], assessment: Assessment, listener: Listener, cache: Path
) -> None:
    """Put what came of the attacks into each model's row."""
    found = attack_models(
        choose_attacks(run.config.attacks, run.session.registry),
        models,
        run.corpus,
        run.config.evaluation,
        seed=run.config.seed,
        weights=run.models.weights,
        cache=cache,
        say=listener.stage,
    )
    for name, row in assessment.rows.items():
        if row is not None:
            row["attacks"] = found[name]


def _facts(run: Ended) -> dict[str, Any]:
    """What kind of run this was."""
    unlearner, corpus = run.unlearner, run.corpus
    return {
        "schema": 1,
        "seed": run.config.seed,
        "reward": run.reward.name,
        "method": unlearner.name,
        "method_settings": unlearner.params.model_dump(mode="json"),
        "preset": run.config.preset,
        "corpus": {
            "name": corpus.name,
            "owners": len(corpus.owners),
            "forget_owners": list(corpus.forget_owners),
            "rows": len(corpus.train),
            "forget_rows": len(corpus.forget),
            "fingerprint": corpus.fingerprint(),
        },
        "references": {
            "reward": unlearner.reference.name,
            "anchor": "+".join(reference.name for reference in unlearner.lessons.references) or "none",
        },
        "steps": unlearner.step,
        "stopped": unlearner.stopped,
        "threads": torch.get_num_threads(),
        "processes": unlearner.processes.size,
        "reward_scorer": run.reward.report(),
        "rewarded": unlearner.rewarded,
        "ceiling": run.reward.ceiling and unlearner.rewarded,
        "reward_seconds": round(run.reward.seconds, 2),
        "referee": run.referee.report(),
    }


def _masked(run: Ended) -> Iterator[str]:
    """A warning where scores that were not finite were replaced, in the loop or after it."""
    for what, attributor in (("reward", run.reward), ("referee", run.referee)):
        if attributor.masked:
            yield (
                f"{attributor.masked} scores of the {what} {attributor.name!r} were not finite and were replaced by medians "
                "(guard.on_nonfinite: mask), since this process began."
            )


def _answers(assessment: Assessment, reward: Attributor, codec: Codec, listener: Listener) -> dict[str, Any]:
    """Before and after, side by side, with each token's share where the reward's scorer says it."""
    whole = assessment.evaluations.items()
    named = {name: evaluation for name, evaluation in whole if evaluation is not None and name != "oracle_second"}
    first = named["original"]
    rows: list[dict[str, Any]] = []
    for part, forget, most in (("forget", True, len(first.forget)), ("retain", False, SHOWN_RETAIN)):
        examples = getattr(first, part).rows
        step = max(len(examples) // most, 1)
        for index in range(0, len(examples), step)[:most]:
            example = examples[index]
            row: dict[str, Any] = {
                "owner": example.owner,
                "prompt": example.prompt,
                "truth": example.response,
                "fact": example.fact,
                "forget": forget,
            }
            for name, evaluation in named.items():
                text = getattr(evaluation, part).greedy[index]
                value = float(assessment.attributions[name]["attribution"][index]) if forget else None
                row[name] = {"text": text, "attribution": value, "tokens": None}
            rows.append(row)
    try:
        _shade(rows, reward, codec, list(named))
    except ScorerError as error:
        if reward.policy_changed:
            raise
        listener.warn(f"The answers on the page are not shaded by token: {error}")
    return {"schema": 1, "scorer": reward.name, "rows": rows}


def _shade(rows: list[dict[str, Any]], reward: Attributor, codec: Codec, names: list[str]) -> None:
    """Each token's share in [0, 1]: token scores above 0, relative to the strongest in the original's answers."""
    from deattrib.models.identities import text_with_offsets

    shown = [row for row in rows if row["forget"]][:80]
    scored: list[tuple[dict[str, Any], list[str], list[float]]] = []
    for name, start in itertools.product(names, range(0, len(shown), SHADED_AT_ONCE)):
        some = shown[start : start + SHADED_AT_ONCE]
        texts = [row[name]["text"] for row in some]
        batch = Rows.from_texts(codec, [row["prompt"] for row in some], texts, [row["owner"] for row in some])
        scores = reward.token_scores(batch)
        if scores is None:
            return
        for row, ids, values in zip(some, batch.batch.response_lists(), scores.tolist(), strict=True):
            text, offsets = text_with_offsets(codec, ids)
            pieces = [text[start:end] for start, end in offsets]
            scored.append((row[name], pieces, values))
    top = max((value for _, _, values in scored for value in values), default=0.0)
    for cell, pieces, values in scored:
        cell["tokens"] = [
            [piece, round(max(v, 0.0) / max(top, 1e-9), 3)] for piece, v in zip(pieces, values, strict=False) if piece
        ]
