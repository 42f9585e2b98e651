"""What a run leaves behind: metrics.json, rows.safetensors, answers.json, the adapter with its card, the page."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus
from deattrib.evaluation import row_file
from deattrib.evaluation.gibberish import GibberishDetector
from deattrib.evaluation.rows import EvaluatedRows, Evaluation, evaluate_parts, evaluation_rows
from deattrib.evaluation.summary import summarise
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.ppo.unlearner import Unlearner
from deattrib.report import write_report
from deattrib.runs.atomic import atomic_write_bytes, atomic_write_json
from deattrib.runs.card import write_card
from deattrib.runs.config import RunConfig
from deattrib.runs.evaluated import evaluate_cached
from deattrib.runs.folder import RunFolder
from deattrib.runs.prepare import Models
from deattrib.runs.row_values import row_figures

SHOWN_RETAIN = 12


def write_outcome(
    folder: RunFolder,
    config: RunConfig,
    corpus: Corpus,
    models: Models,
    unlearner: Unlearner,
    reward: Attributor,
    referee: Attributor,
    seconds: dict[str, float],
    stage: Callable[[str, str], None],
    *,
    cache: Path,
) -> dict[str, Any]:
    """Evaluate every model of the run and write everything that people and programs read."""
    start = time.perf_counter()
    policy = unlearner.policy
    save_adapter(policy, folder.path / "adapter")
    unlearned = policy.language_model(name="unlearned")
    evaluations = _evaluate(unlearned, models, corpus, config, stage, cache)
    detector = GibberishDetector.of_corpus(corpus)
    attributions = {
        name: {
            "attribution": attribute(referee, models.codec, evaluation.forget),
            "reward_attribution": attribute(reward, models.codec, evaluation.forget),
        }
        for name, evaluation in evaluations.items()
        if evaluation is not None
    }
    rows = {
        name: summarise(
            evaluation,
            evaluations["oracle"],
            detector=detector,
            attribution={key: value.numpy() for key, value in attributions[name].items()},
            oracle_model=models.oracle,
        )
        if evaluation is not None
        else None
        for name, evaluation in evaluations.items()
    }
    metrics = {
        "schema": 1,
        "seed": config.seed,
        "reward": reward.name,
        "method": unlearner.name,
        "method_settings": unlearner.params.model_dump(mode="json"),
        "preset": config.preset,
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
            "anchor": "+".join(reference.name for reference in unlearner.anchor_references) or "none",
        },
        "steps": unlearner.step,
        "stopped": unlearner.stopped,
        "threads": torch.get_num_threads(),
        "reward_scorer": reward.report(),
        "reward_seconds": round(reward.seconds, 2),
        "referee": referee.report(),
        "rows": rows,
        "seconds": {**seconds, "evaluate": round(time.perf_counter() - start, 2)},
    }
    by_row = row_figures(evaluations, attributions, models.oracle)
    atomic_write_bytes(folder.path / row_file.NAME, row_file.to_bytes(by_row))
    atomic_write_json(folder.path / "answers.json", _answers(evaluations, attributions, reward, models.codec))
    folder.write_metrics(metrics)
    write_card(folder.path / "adapter" / "README.md", config, corpus, metrics, model=config.model.path or config.model.base)
    write_report(folder.path)
    return metrics


def _evaluate(
    unlearned: LanguageModel,
    models: Models,
    corpus: Corpus,
    config: RunConfig,
    stage: Callable[[str, str], None],
    cache: Path,
) -> dict[str, Evaluation | None]:
    """The evaluation of each row of the table; those of frozen models from the cache where they are there."""
    subjects = {
        "original": models.original,
        "oracle": models.oracle,
        "oracle_second": models.oracle_second,
        "unlearned": unlearned,
    }
    parts = evaluation_rows(corpus, config.evaluation)
    evaluations: dict[str, Evaluation | None] = {}
    for name, model in subjects.items():
        if model is None:
            evaluations[name] = None
            continue
        stage("evaluate", name)
        weights = models.weights.get(name)
        if weights is None:
            evaluations[name] = evaluate_parts(model, parts, config.evaluation)
        else:
            evaluations[name] = evaluate_cached(model, parts, config.evaluation, weights=weights, cache=cache)
    return evaluations


def save_adapter(policy: Any, path: Path) -> None:
    """The adapter in PEFT's format (or the whole model, where all weights were trained)."""
    policy.backbone.save_pretrained(
        path, safe_serialization=True, **({} if policy.settings.adapter == "full" else {"selected_adapters": ["default"]})
    )
    policy.codec.tokenizer.save_pretrained(path)


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


def _answers(
    evaluations: dict[str, Evaluation | None], attributions: dict[str, dict[str, Tensor]], reward: Attributor, codec: Codec
) -> dict[str, Any]:
    """Before and after, side by side, with each token's share where the reward's scorer says it."""
    named = {name: evaluation for name, evaluation in evaluations.items() if evaluation is not None and name != "oracle_second"}
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
                value = float(attributions[name]["attribution"][index]) if forget else None
                row[name] = {"text": text, "attribution": value, "tokens": None}
            rows.append(row)
    _shade(rows, reward, codec, list(named))
    return {"scorer": reward.name, "rows": rows}


def _shade(rows: list[dict[str, Any]], reward: Attributor, codec: Codec, names: list[str]) -> None:
    """Each token's share in [0, 1]: token scores above 0, relative to the strongest in the original's answers."""
    from deattrib.models.identities import text_with_offsets

    shown = [row for row in rows if row["forget"]][:80]
    scored: list[tuple[dict[str, Any], list[str], list[float]]] = []
    for name in names:
        texts = [row[name]["text"] for row in shown]
        if not texts:
            return
        batch = Rows.from_texts(codec, [row["prompt"] for row in shown], texts, [row["owner"] for row in shown])
        scores = reward.token_scores(batch)
        if scores is None:
            return
        for row, ids, values in zip(shown, batch.batch.response_lists(), scores.tolist(), strict=True):
            text, offsets = text_with_offsets(codec, ids)
            pieces = [text[start:end] for start, end in offsets]
            scored.append((row[name], pieces, values))
    top = max((value for _, _, values in scored for value in values), default=0.0)
    for cell, pieces, values in scored:
        cell["tokens"] = [
            [piece, round(max(v, 0.0) / max(top, 1e-9), 3)] for piece, v in zip(pieces, values, strict=False) if piece
        ]
