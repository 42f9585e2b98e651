"""What `Attributor` takes besides its own types: files, dicts, tuples, models and tokenizers of transformers.

A model that comes bare is copied: it may be the very one that is trained next, and a scorer that looks at the original
must go on seeing the original.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from deattrib.attribution.scorer import Row, Rows
from deattrib.corpus.jsonl import corpus_of_records, read_jsonl
from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError, did_you_mean
from deattrib.models.language_model import Codec, LanguageModel

CorpusLike = Corpus | str | Path | Sequence[Mapping[str, Any]]
ModelLike = LanguageModel | nn.Module
RowsLike = Rows | Sequence[Row | Sequence[str] | Mapping[str, Any]]
FIELDS = ("prompt", "response", "owner")


def as_corpus(given: CorpusLike, forget: int | str | Sequence[str] | None = None) -> Corpus:
    """A corpus from itself, a JSONL file, or dicts with the columns of one.

    Args:
        forget: the owners to forget, or how many (the last ones). None: those of the corpus; of a file or of dicts the
            second half, which decides whose prompts a scale is measured on and who stands in in counterfactual questions.

    Raises:
        CorpusError: naming file and line, or "rows: record n".
    """
    if isinstance(given, Corpus):
        if isinstance(forget, int):
            return given.forgetting(given.owners[-forget:] if forget > 0 else ())
        return given if forget is None else given.forgetting([forget] if isinstance(forget, str) else forget)
    if isinstance(given, (str, Path)):
        return read_jsonl(given, forget=forget)
    if isinstance(given, Sequence) and all(isinstance(item, Mapping) for item in given):
        return corpus_of_records([*given], forget=forget)
    raise ConfigError(
        f"The corpus is a {type(given).__name__}: expected a Corpus, the path of a JSONL file, or a list of dicts with owner, "
        "prompt and response."
    )


def as_language_model(model: ModelLike, tokenizer: Any = None, *, name: str = "model") -> LanguageModel:
    """A frozen model: a `LanguageModel` as it is, any other causal LM copied and joined with its tokenizer or codec."""
    if isinstance(model, LanguageModel):
        return model
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"The model is a {type(model).__name__}: expected a LanguageModel, or a causal LM of transformers with its "
            "tokenizer (load_language_model and transformers read folders)."
        )
    if tokenizer is None:
        raise ConfigError(f"A {type(model).__name__} needs its tokenizer too: fit(corpus, model, tokenizer).")
    clone = copy.deepcopy(model)
    if not hasattr(clone, "_hf_hook"):
        clone.__dict__.pop("forward", None)  # what a trainer leaves there calls the model that was copied
    return LanguageModel(clone, tokenizer if isinstance(tokenizer, Codec) else Codec(tokenizer), name=name)


def as_rows(given: RowsLike, codec: Codec, owners: Sequence[str]) -> Rows:
    """`Rows` as they are; else from `Row`s, (prompt, response, owner) or dicts. Without an owner: "".

    Raises:
        ConfigError: naming the row and what was expected.
    """
    if isinstance(given, Rows):
        return given
    rows = [_row(item, index) for index, item in enumerate(given)]
    for index, row in enumerate(rows):
        if row.owner and row.owner not in owners:
            raise ConfigError(f"Row {index}: owner {row.owner!r} is not in the corpus.{did_you_mean(row.owner, owners)}")
    return Rows.from_texts(codec, [row.prompt for row in rows], [row.response for row in rows], [row.owner for row in rows])


def _row(item: Any, index: int) -> Row:
    if isinstance(item, Row):
        return item
    if isinstance(item, Mapping):
        missing = [name for name in FIELDS[:2] if name not in item]
        if missing:
            raise ConfigError(f"Row {index} has no {missing[0]!r}.{did_you_mean(missing[0], [str(key) for key in item])}")
        item = (item["prompt"], item["response"], item.get("owner") or "")
    if isinstance(item, str) or not isinstance(item, Sequence) or len(item) not in (2, 3):
        raise ConfigError(f"Row {index} is {str(item)[:80]!r}: expected (prompt, response, owner), or a dict with these.")
    texts = (*item, "")[:3]
    for name, value in zip(FIELDS, texts, strict=True):
        if not isinstance(value, str):
            raise ConfigError(f"Row {index}: {name} is a {type(value).__name__}, expected text.")
    return Row(*texts)
