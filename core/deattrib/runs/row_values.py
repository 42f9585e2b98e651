"""From the evaluations of a run to the figures of single rows; see `deattrib.evaluation.row_file`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deattrib.evaluation.arrays import Array
from deattrib.evaluation.likelihood import answer_likelihoods
from deattrib.evaluation.row_file import RowFigures
from deattrib.evaluation.rows import EvaluatedRows, Evaluation
from deattrib.models.language_model import LanguageModel


def row_figures(
    evaluations: Mapping[str, Evaluation | None], attributions: Mapping[str, Mapping[str, Array]], oracle: LanguageModel | None
) -> RowFigures:
    """What a comparison resamples.

    Args:
        evaluations: row of metrics.json -> its evaluation, all of the same questions.
        attributions: row -> {"attribution": [N]}, the referee's, of the greedy answers to its forget rows.
        oracle: judges how natural answers to forget prompts are; None leaves that out.
    """
    columns: dict[str, Array] = {}
    clusters: dict[str, tuple[str, ...]] = {}
    for model, evaluation in evaluations.items():
        if evaluation is None:
            continue
        for name in Evaluation.PARTS:
            part: EvaluatedRows = getattr(evaluation, name)
            clusters[name] = tuple(" / ".join(map(str, cluster)) for cluster in part.clusters)
            columns[f"{model}/{name}/rouge"] = np.asarray(part.rouge)
        forget = {
            "fact": evaluation.forget.fact,
            "truth_ratio": evaluation.forget.truth_ratio,
            "attribution": np.asarray(attributions[model]["attribution"]),
            **_under(oracle, evaluation),
        }
        columns |= {f"{model}/forget/{name}": np.asarray(values) for name, values in forget.items()}
    return RowFigures(columns, clusters)


def _under(oracle: LanguageModel | None, evaluation: Evaluation) -> dict[str, Array]:
    """Loss and length of each greedy answer to a forget prompt under the oracle."""
    part = evaluation.forget
    if oracle is None or not len(part):
        return {}
    prompts = [row.prompt for row in part.rows]
    scored = answer_likelihoods(oracle, prompts, part.greedy, batch_size=evaluation.settings.batch_size)
    return {"loss": scored.loss, "tokens": scored.tokens.astype(np.float32)}
