"""From the evaluations of a run to the figures of single rows; see `deattrib.evaluation.row_file`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deattrib.evaluation.arrays import Array
from deattrib.evaluation.likelihood import AnswerLikelihoods
from deattrib.evaluation.row_file import RowFigures
from deattrib.evaluation.rows import EvaluatedRows, Evaluation


def row_figures(
    evaluations: Mapping[str, Evaluation | None],
    attributions: Mapping[str, Mapping[str, Array]],
    under_oracle: Mapping[str, AnswerLikelihoods | None],
) -> RowFigures:
    """What a comparison resamples.

    Args:
        evaluations: row of metrics.json -> its evaluation, all of the same questions.
        attributions: row -> {"attribution": [N]}, the referee's, of the greedy answers to its forget rows.
        under_oracle: row -> likelihoods of those answers under the oracle; None where there is none.
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
            **_under(under_oracle[model]),
        }
        columns |= {f"{model}/forget/{name}": np.asarray(values) for name, values in forget.items()}
    return RowFigures(columns, clusters)


def _under(scored: AnswerLikelihoods | None) -> dict[str, Array]:
    """Loss and length of each greedy answer to a forget prompt under the oracle."""
    return {} if scored is None else {"loss": scored.loss, "tokens": scored.tokens.astype(np.float32)}
