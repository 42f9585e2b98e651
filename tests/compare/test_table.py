"""results.csv has every figure, reads back exactly, and becomes a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deattrib.compare.content import shared_parts
from deattrib.compare.folders import ComparedRun
from deattrib.compare.markdown import markdown
from deattrib.compare.table import FIELDS, csv_text, long_rows, parquet_bytes, read_csv
from deattrib.errors import RunError

Make = Callable[..., ComparedRun]


def lines(*runs: ComparedRun) -> list[dict[str, object]]:
    return list(long_rows(runs, shared_parts([run for run in runs if run.metrics])[0]))


def test_csv_reads_back_as_it_was_written(make_run: Make, failed_run: ComparedRun, tmp_path: Path) -> None:
    odd = ['quoted "variant"\nof two lines', "a\rb", "\r", "a\r\n", ""]
    rows = lines(make_run(), *(make_run("npo", "min-k:share=0.1,x", name, seed=1) for name in odd), failed_run)
    path = tmp_path / "results.csv"
    path.write_bytes(csv_text(rows).encode())
    assert read_csv(path) == rows
    assert path.read_text().splitlines()[0] == ",".join(FIELDS)


def test_every_figure_of_every_model_is_there_with_its_interval(make_run: Make) -> None:
    run = make_run()
    rows = {(row["row"], row["metric"]): row for row in lines(run)}
    for model in ("unlearned", "original", "oracle", "oracle_second"):
        assert rows[model, "forget_rouge"]["value"] == run.rows[model]["forget_rouge"]  # type: ignore[index]
        assert (rows[model, "forget_rouge"]["low"], rows[model, "forget_rouge"]["high"]) == (0.1, 0.9)
    assert rows["oracle", "score"]["value"] == pytest.approx(1)
    assert rows["unlearned", "collapsed"]["value"] == 0 and rows["unlearned", "seconds"]["value"] == 12.5
    assert {"closeness ks_distance", "forgotten", "kept", "fluent"} <= {
        metric for model, metric in rows if model == "unlearned"
    }


def test_a_failed_run_is_one_line_with_its_reason(failed_run: ComparedRun) -> None:
    (row,) = lines(failed_run)
    assert row["metric"] == "error" and row["error"] == "layer 9 does not exist" and row["value"] is None


def test_parquet_holds_the_same(make_run: Make, failed_run: ComparedRun) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = lines(make_run(), failed_run)
    data = parquet_bytes(rows)
    assert data is not None
    assert parquet.read_table(arrow.BufferReader(data)).to_pylist() == rows


def test_markdown_has_references_medians_ranges_and_errors(make_run: Make, failed_run: ComparedRun) -> None:
    runs = [make_run(seed=seed, forget_rouge=0.4 + 0.05 * seed) for seed in range(3)]
    fallen = [make_run("ga", variant="a|b", seed=seed, gibberish_rate=0.9) for seed in range(3)]
    text = markdown(lines(*runs, *fallen, failed_run))
    table = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert list(table)[2:5] == ["original", "oracle", "oracle_second"]
    assert "0.450 [0.400, 0.500]" in table["dareu · classifier"]
    assert "| ga · a\\|b (collapsed) | 3 |" in text
    assert "- rmu, seed 0: layer 9 does not exist" in text
    assert len({line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", ",".join(FIELDS) + "\nr,m,w,,one,unlearned,x,1,,,\n"])
def test_another_file_is_refused_by_name(content: str, tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(content)
    with pytest.raises(RunError, match=r"results\.csv"):
        read_csv(path)
    with pytest.raises(RunError, match="deattrib compare"):
        read_csv(tmp_path / "missing.csv")
