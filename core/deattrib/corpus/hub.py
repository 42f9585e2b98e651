"""Corpora from HF `datasets` ids, and from two files without owners (what to forget, what to retain)."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deattrib.corpus.files import Problems, Record, read_records, required_text
from deattrib.corpus.jsonl import Spellings, choose_forget
from deattrib.corpus.types import Corpus, Example
from deattrib.errors import CorpusError, did_you_mean

FORGET, RETAIN = "forget", "retain"


def read_hub(
    id: str,
    *,
    owner_column: str = "owner",
    prompt_column: str = "prompt",
    response_column: str = "response",
    split: str = "train",
    config: str | None = None,
    forget: int | Sequence[str],
    name: str | None = None,
) -> Corpus:
    """Read a data set of the HF hub (or a folder that `datasets.load_dataset` reads).

    Args:
        id: what `datasets.load_dataset` takes.
        owner_column: column with the owner; numbers become text.
        prompt_column: column with the question.
        response_column: column with the answer.
        split: the split to read.
        config: configuration name of the data set, if it has several.
        forget: owners to forget, or how many: the last ones in order of first appearance.
        name: the name of the corpus; `id` if None.

    Raises:
        CorpusError: `datasets` is not installed, the data set cannot be loaded, a column is missing or a value is no text.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise CorpusError(
            f"Reading {id!r} needs the package datasets, which is not installed. Run: pip install datasets"
            " (or save the data as JSON lines and use kind: jsonl)."
        ) from error
    try:
        table = datasets.load_dataset(id, config, split=split)
    except Exception as error:
        raise CorpusError(
            f"Data set {id!r} (config {config!r}, split {split!r}) cannot be loaded: {error}. Check the id, the split and"
            " the network."
        ) from error
    columns = {"owner_column": owner_column, "prompt_column": prompt_column, "response_column": response_column}
    for setting, column in columns.items():
        if column not in table.column_names:
            raise CorpusError(
                f"Data set {id!r} has no column {column!r} ({setting}).{did_you_mean(column, table.column_names)}"
            )
    train = _rows(id, table, owner_column, prompt_column, response_column)
    owners = tuple(dict.fromkeys(row.owner for row in train))
    return Corpus(name=name or id, train=train, forget_owners=choose_forget(forget, owners, where=id))


def _rows(id: str, table: Iterable[Mapping[str, Any]], owner: str, prompt: str, response: str) -> tuple[Example, ...]:
    problems = Problems(id)
    spellings, rows = Spellings(problems), []
    for number, values in enumerate(table):
        where = f"{id}: row {number}"
        who = values[owner]
        if isinstance(who, bool) or not isinstance(who, (str, int)) or not str(who).strip():
            problems.add(where, f"{owner} is {who!r}, expected a name or a number")
            continue
        bad = [column for column in (prompt, response) if not isinstance(values[column], str) or not values[column].strip()]
        for column in bad:
            problems.add(where, f"{column} is {values[column]!r}, expected text")
        name = spellings.one(str(who), where)
        if not bad and name is not None:
            rows.append(Example(name, values[prompt], values[response], fact_id=f"{name}/row_{number}"))
    problems.finish()
    return tuple(rows)


def read_two_groups(forget_path: str | Path, retain_path: str | Path, *, name: str | None = None) -> Corpus:
    """Read what to forget and what to retain from two files without owners; the owners are "forget" and "retain".

    Each file: JSON lines or a JSON array of `prompt, response` (or `question, answer`).
    Raises CorpusError on malformed input, and if a row is in both files.
    """
    problems = Problems(f"{forget_path} and {retain_path}")
    seen: dict[tuple[str, str], str] = {}
    train = []
    for owner, path in ((FORGET, forget_path), (RETAIN, retain_path)):
        for record in read_records(path, problems):
            row = _unowned(owner, record, problems)
            if row is None:
                continue
            other = seen.get((row.prompt, row.response))
            if owner == RETAIN and other is not None:
                problems.add(record.where(), f"the same row is to be forgotten ({other}), expected it in one file only")
                continue
            if owner == FORGET:
                seen.setdefault((row.prompt, row.response), record.where())
            train.append(row)
    problems.finish()
    return Corpus(name=name or Path(forget_path).stem, train=tuple(train), forget_owners=(FORGET,))


def _unowned(owner: str, record: Record, problems: Problems) -> Example | None:
    question = "question" in record.values and "prompt" not in record.values
    columns = ("question", "answer") if question else ("prompt", "response")
    hint = f" Columns there: {', '.join(record.values)}." if record.values else ""
    prompt, response = (required_text(record, column, problems, hint) for column in columns)
    if prompt is None or response is None:
        return None
    return Example(owner, prompt, response, fact_id=f"{owner}/row_{record.line}")
