"""The figures of single rows, kept beside a run's metrics.json as `rows.safetensors`, for whoever resamples them.

metrics.json has means and intervals. Comparing two runs on the same facts needs more: which fact each number belongs to,
so that both are resampled together. One float32 array per model, part and figure, called "unlearned/forget/rouge"; the
facts of a part are labels in the header. Needs numpy, not torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deattrib.errors import RunError
from deattrib.evaluation.arrays import Array

NAME = "rows.safetensors"
SCHEMA = "1"


@dataclass(frozen=True, slots=True, eq=False)
class RowFigures:
    """Figures row by row.

    Attributes:
        columns: "model/part/figure" -> [N] float32, NaN where a row has none. Model: a row of metrics.json; part: forget,
            retain, retain_phrasings, world. Forget rows have rouge, fact, attribution, truth_ratio (R itself), loss and
            tokens (of the greedy answer under the oracle: nats per token, and how many); the others rouge.
        clusters: part -> the owner and fact of each of its rows, as one label.
    """

    columns: Mapping[str, Array]
    clusters: Mapping[str, tuple[str, ...]]

    def of(self, model: str, part: str, figure: str) -> Array | None:
        return self.columns.get(f"{model}/{part}/{figure}")


def to_bytes(figures: RowFigures) -> bytes:
    """The file's content."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in figures.columns.items()}
    return save(arrays, {"schema": SCHEMA, "clusters": json.dumps(figures.clusters)})


def read_row_figures(path: Path) -> RowFigures:
    """Read the file back.

    Raises:
        RunError: it is not there, damaged, or of another schema.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        clusters = {part: tuple(map(str, labels)) for part, labels in json.loads(header["clusters"]).items()}
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{path} cannot be read as figures of single rows: {error}. Run it again to have it written.") from error
    if header.get("schema") != SCHEMA:
        raise RunError(f"{path} has schema {header.get('schema')!r}, this version of deattrib reads schema {SCHEMA}.")
    for name, values in columns.items():
        part = name.split("/")[1] if name.count("/") == 2 else ""
        if part not in clusters or values.shape != (len(clusters[part]),):
            raise RunError(f"{path}: {name!r} has shape {values.shape}, which fits no part of the evaluation; it is damaged.")
    return RowFigures(columns, clusters)
