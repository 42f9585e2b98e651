"""results.csv: every figure of every run in long format, and back into a table of medians.

One line per run, model and figure; columns `FIELDS`. `row` is the model: unlearned, original, oracle, oracle_second.
`low` and `high` are the interval of that figure within its run, where the run has one. Figures added here: `score` and
`closeness KEY` per model, `forgotten`, `kept` and `fluent` (the score over the parts of one group), `collapsed` (0 or 1),
`seconds` (of the unlearning loop). A run without a result is one line with metric `error` and the reason in `error`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deattrib.compare.content import REFERENCES, figures_of
from deattrib.compare.folders import ComparedRun
from deattrib.compare.score import GROUPS, closenesses, collapse, score, score_of_group
from deattrib.corpus.tables import csv_lines
from deattrib.errors import RunError
from deattrib.report.figures import figure, mapping, sequence

FIELDS = ("run", "method", "reward", "variant", "seed", "row", "metric", "value", "low", "high", "error")


def long_rows(runs: Sequence[ComparedRun], over: Collection[str]) -> Iterator[dict[str, Any]]:
    """The lines of results.csv. `over`: the parts of the score."""
    for run in runs:
        label = run.label
        head = {"run": run.name, "method": label.method, "reward": label.reward, "variant": label.variant, "seed": label.seed}
        nothing = {"value": None, "low": None, "high": None, "error": ""}
        if run.metrics is None:
            yield {**head, "row": "unlearned", "metric": "error", **nothing, "error": run.error}
            continue
        for row in ("unlearned", *REFERENCES):
            raw = mapping(run.rows.get(row))
            if not raw:
                continue
            intervals = mapping(raw.get("intervals"))
            for metric, value in {**figures_of(raw), **_added(run, row, over)}.items():
                bounds = [figure(bound) for bound in _interval(raw, intervals, metric)]
                low, high = bounds if len(bounds) == 2 else (None, None)
                yield {**head, "row": row, "metric": metric, **nothing, "value": value, "low": low, "high": high}


def _interval(row: Mapping[str, object], intervals: Mapping[str, object], metric: str) -> Sequence[object]:
    """The two ends that metrics.json has for a figure, wherever it keeps them."""
    if metric.startswith("attack "):
        return sequence(mapping(mapping(row.get("attacks")).get(metric.removeprefix("attack "))).get("interval"))
    if metric.startswith("attribution by "):
        return sequence(intervals.get(f"attributions.{metric.removeprefix('attribution by ')}"))
    return sequence(intervals.get(metric))


def _added(run: ComparedRun, row: str, over: Collection[str]) -> dict[str, float]:
    parts = closenesses(run.rows, row)
    found: dict[str, float | None] = {"score": score(parts, over)}
    found |= {group: score_of_group(parts, over, group) for group in GROUPS}
    found |= {f"closeness {key}": value for key, value in parts.items()}
    if row == "unlearned":
        found["collapsed"] = float(bool(collapse(run.rows, row)))
        found["seconds"] = figure(mapping(mapping(run.metrics).get("seconds")).get("unlearn"))
    return {key: value for key, value in found.items() if value is not None}


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The file's content; numbers as Python writes them, so that they read back exactly."""
    text = csv_lines([FIELDS, *([row.get(name, "") for name in FIELDS] for row in rows)])
    return text.encode("utf-8", "replace").decode("utf-8")  # unpaired surrogates have no place in a file


def parquet_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """The same as parquet; None where pyarrow is not installed."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        return None
    kinds = {"seed": arrow.int64(), "value": arrow.float64(), "low": arrow.float64(), "high": arrow.float64()}
    schema = arrow.schema([(name, kinds.get(name, arrow.string())) for name in FIELDS])
    sink = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist([dict(row) for row in rows], schema=schema), sink)
    return sink.getvalue()


def read_csv(path: Path) -> list[dict[str, Any]]:
    """results.csv as `long_rows` made it. Raises RunError."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows: list[dict[str, Any]] = list(reader)
            if tuple(reader.fieldnames or ()) != FIELDS:
                raise RunError(f"{path} has the columns {reader.fieldnames}; expected {', '.join(FIELDS)}.")
        for row in rows:
            row["seed"] = int(row["seed"])
            row |= {name: float(row[name]) if row[name] else None for name in ("value", "low", "high")}
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}. `deattrib compare` writes it.") from error
    except (ValueError, TypeError, csv.Error) as error:
        raise RunError(f"{path} is not what `deattrib compare` writes: {error}.") from error
    return rows
