"""rows.safetensors reads back as it was written, and a damaged one is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deattrib.errors import RunError
from deattrib.evaluation.row_file import RowFigures, read_row_figures, to_bytes

FIGURES = RowFigures(
    {"unlearned/forget/rouge": np.array([0.5, np.nan, 1.0], dtype=np.float32)},
    {"forget": ("ada / é", "ada / 2", "ada / 2"), "world": ()},
)


def test_it_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.safetensors"
    path.write_bytes(to_bytes(FIGURES))
    found = read_row_figures(path)
    values = found.of("unlearned", "forget", "rouge")
    assert values is not None and values.dtype == np.float32
    np.testing.assert_array_equal(values, FIGURES.columns["unlearned/forget/rouge"])
    assert found.clusters == FIGURES.clusters and found.of("oracle", "forget", "rouge") is None


@pytest.mark.parametrize("damage", ["cut", "text", "length", "part", "missing"])
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.safetensors"
    data = to_bytes(FIGURES)
    if damage == "length":
        data = to_bytes(RowFigures(FIGURES.columns, {"forget": ("one",)}))
    elif damage == "part":
        data = to_bytes(RowFigures({"rouge": FIGURES.columns["unlearned/forget/rouge"]}, FIGURES.clusters))
    if damage != "missing":
        path.write_bytes(data[:-5] if damage == "cut" else b"rows" if damage == "text" else data)
    with pytest.raises(RunError, match=r"rows\.safetensors"):
        read_row_figures(path)
