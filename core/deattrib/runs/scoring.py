"""Scoring a file of responses: what `deattrib score` does.

Everything that can be wrong with files, names and settings is found before torch is loaded; the result is written once, at the
end, and never over another file unless that is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deattrib.corpus.files import Problems, Record, optional_text, required_text
from deattrib.corpus.jsonl import normalised, read_jsonl
from deattrib.corpus.settings import load_corpus
from deattrib.corpus.tables import encode_table, read_table, table_format
from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError, CorpusError, RunError, did_you_mean
from deattrib.runs.atomic import atomic_write_bytes
from deattrib.runs.config import RunConfig, build_config

if TYPE_CHECKING:
    from torch import Tensor

    from deattrib.attribution.attributor import Attributor

BATCH = 64


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What to score, with what, and where to put it.

    Attributes:
        file: rows with the columns prompt, response and, if they have one, owner; other columns are kept.
        corpus: a JSONL file of owner, prompt and response, or a config file (.yaml) as for `deattrib run`.
        model: the original model, a folder or hub id; None: as the config says.
        scorer: a name, FILE.py:Class or module:Class, or a mapping with settings; None: the config's reward.
        forget: on whose prompts the scale is measured; empty: as the corpus says, of a JSONL file the second half.
        owners: whom to score against; empty: everybody in the corpus.
        overrides: settings as `--set` takes them.
        output: the result; its ending decides the format. None: FILE.scores.ENDING beside `file`.
        overwrite: replace the output if it exists.
    """

    file: Path
    corpus: Path
    model: str | None = None
    scorer: str | Mapping[str, Any] | None = None
    forget: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    seed: int | None = None
    output: Path | None = None
    overwrite: bool = False


def score_file(request: ScoreRequest, say: Callable[[str], None]) -> dict[str, Any]:
    """Score every row and write the table; returns a summary of plain values.

    Columns added, NAME being the scorer's: `NAME.attribution.OWNER` in [0, 1] (left out without calibration) and
    `NAME.raw.OWNER` on the scorer's own scale, for each owner; `NAME.attribution` and `NAME.raw` for the row's own owner, where
    it has one.

    Raises:
        DeattribError: before anything is computed, where it is about files, names and settings.
    """
    output = _output(request)
    rows = read_rows(request.file)
    encode_table(output, rows)
    config = _config(request)
    corpus = _corpus(request, config)
    _check_owners(request, rows, corpus)

    say(f"{len(rows)} rows; loading")
    attributor = _attributor(config)
    name = attributor.name
    _check_columns(request.file, rows, name)
    _fit(attributor, config, corpus, say)
    shown = list(request.owners or corpus.owners)
    asked = list(dict.fromkeys([*shown, *(row["owner"] for row in rows if row.get("owner"))]))
    say(f"scoring against {len(asked)} owners")
    raw, values = _score(attributor, rows, asked)
    table = [
        dict(row) | _columns(name, asked, shown, row.get("owner"), raw[index], None if values is None else values[index])
        for index, row in enumerate(rows)
    ]
    _write(output, encode_table(output, table), overwrite=request.overwrite)
    report = attributor.report()
    attributor.close()
    own = [row[f"{name}.attribution"] for row in table if row.get(f"{name}.attribution") is not None]
    return {
        "output": str(output),
        "rows": len(rows),
        "owners": shown,
        "scorers": report,
        "mean_own_attribution": sum(own) / len(own) if own else None,
    }


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, checked; owners normalised, "" and null owners None. Raises CorpusError with every problem."""
    problems = Problems(str(path))
    rows = [_row(record, problems) for record in read_table(path, problems)]
    problems.finish()
    if not rows:
        raise CorpusError(f"{path}: there are no rows, expected the columns prompt, response and, optionally, owner.")
    return rows


def _row(record: Record, problems: Problems) -> dict[str, Any]:
    others = [str(name) for name in record.values]
    required_text(record, "prompt", problems, did_you_mean("prompt", others))
    if record.values.get("response") != "":  # an empty answer is an answer
        required_text(record, "response", problems, did_you_mean("response", others))
    row = dict(record.values)
    if "owner" in row:
        owner = optional_text(record, "owner", problems) if row["owner"] != "" else None
        row["owner"] = normalised(owner) if owner else None
    return row


def _output(request: ScoreRequest) -> Path:
    table_format(request.file)  # first: "/" and "." have no name to put another beside
    output = request.output or request.file.with_name(f"{request.file.stem}.scores{request.file.suffix}")
    table_format(output)
    if not output.parent.is_dir():
        raise RunError(f"Cannot write {output}: there is no folder {output.parent}. Make it, or choose another --output.")
    if output.resolve() == request.file.resolve():
        raise RunError(f"The output {output} is the file to be scored. Choose another --output.")
    _refuse_existing(output, request.overwrite)
    return output


def _refuse_existing(output: Path, overwrite: bool) -> None:
    if output.is_dir():
        raise RunError(f"Cannot write {output}: it is a folder. Choose another --output.")
    if output.exists() and not overwrite:
        raise RunError(f"{output} exists. Choose another --output, or give --overwrite to replace it.")


def _write(output: Path, data: bytes, *, overwrite: bool) -> None:
    _refuse_existing(output, overwrite)  # somebody else may have been faster
    atomic_write_bytes(output, data)


def _config(request: ScoreRequest) -> RunConfig:
    is_config = request.corpus.suffix.lower() in (".yaml", ".yml")
    overrides = list(request.overrides)
    if request.model is not None:
        overrides.append(f"model.path={json.dumps(request.model, ensure_ascii=False)}")
    config = build_config(
        path=request.corpus if is_config else None, overrides=overrides, reward=request.scorer, seed=request.seed
    )
    if not is_config and config.model.path is None:
        raise ConfigError(
            "Give --model, the original model (a folder or hub id), or as --corpus a config file (.yaml) that says which it is."
        )
    return config


def _corpus(request: ScoreRequest, config: RunConfig) -> Corpus:
    if request.corpus.suffix.lower() not in (".yaml", ".yml"):
        return read_jsonl(request.corpus, forget=request.forget or None)
    corpus = load_corpus(config.corpus, config.seed)
    return corpus.forgetting(request.forget) if request.forget else corpus


def _check_owners(request: ScoreRequest, rows: Sequence[dict[str, Any]], corpus: Corpus) -> None:
    for owner in request.owners:
        if owner not in corpus.owners:
            raise ConfigError(f"--owner {owner!r} is not in the corpus.{did_you_mean(owner, corpus.owners)}")
    known = set(corpus.owners)
    for number, row in enumerate(rows, start=1):
        if row.get("owner") and row["owner"] not in known:
            raise CorpusError(
                f"{request.file}: row {number}: owner {row['owner']!r} is not in the corpus {request.corpus}."
                f"{did_you_mean(row['owner'], corpus.owners)}"
            )


def _check_columns(file: Path, rows: Sequence[dict[str, Any]], name: str) -> None:
    taken = [column for row in rows for column in row if column.startswith((f"{name}.attribution", f"{name}.raw"))]
    if taken:
        raise CorpusError(f"{file} has a column {taken[0]!r} already, which scoring would replace. Rename or remove it.")


def _attributor(config: RunConfig) -> Attributor:
    from deattrib.attribution.attributor import Attributor
    from deattrib.runs.identity import registry_of

    if isinstance(config.reward, list) and len(config.reward) > 1:
        raise ConfigError(f"Scoring a file takes one scorer, the config's reward has {len(config.reward)}: give --scorer.")
    return Attributor(config.reward, registry=registry_of(config), calibration=config.calibration, guard=config.guard)


def _fit(attributor: Attributor, config: RunConfig, corpus: Corpus, say: Callable[[str], None]) -> None:
    from deattrib.attribution.context import make_context
    from deattrib.runs.prepare import cache_folder, prepare_models

    settings = config.model.model_copy(update={"oracle": None, "oracles": 0})
    models = prepare_models(corpus, settings, seed=config.seed, cache=cache_folder(), say=say)
    say(f"fitting {attributor.name} on {len(corpus.train)} rows of {len(corpus.owners)} owners")
    context = make_context(
        corpus,
        models.original,
        base=models.base,
        seed=config.seed,
        cache=cache_folder(),
        retrainer=models.retrainer,
    )
    attributor.fit(corpus, context=context)


def _score(attributor: Attributor, rows: Sequence[dict[str, Any]], owners: list[str]) -> tuple[Tensor, Tensor | None]:
    """[rows, owners] raw and calibrated; the second is None for a scorer without a scale."""
    import torch

    raw: list[Tensor] = []
    values: list[Tensor] = []
    scaled = all(part["calibration"] is not None or part["fidelity"] == "control" for part in attributor.report())
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        texts = [(row["prompt"], row["response"]) for row in some]
        scores = attributor.scores(texts, owners)
        raw.extend(scores.values())
        if scaled:
            values.append(attributor.attributions(texts, owners, scores=scores))
    return torch.cat(raw), torch.cat(values) if scaled else None


def _columns(
    name: str, asked: list[str], shown: list[str], own: str | None, raw: Tensor, values: Tensor | None
) -> dict[str, float | None]:
    result: dict[str, float | None] = {}
    for kind, numbers in (("attribution", values), ("raw", raw)):
        if numbers is None:
            continue
        by_owner = dict(zip(asked, numbers.tolist(), strict=True))
        result[f"{name}.{kind}"] = by_owner[own] if own else None
        result |= {f"{name}.{kind}.{owner}": by_owner[owner] for owner in shown}
    return result
