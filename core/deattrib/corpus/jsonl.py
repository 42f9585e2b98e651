"""A corpus from one file of JSON lines: `owner, prompt, response`, and what helps to evaluate.

Columns besides the three: `paraphrase_prompt` (text or list; the same question in words never trained on),
`paraphrase_response`, `wrong_responses`, `fact`, `fact_id`, `identity` (text or list; names of the owner, the full name
first) and `split` (`train`, `holdout`, `world` or `background`; `train` if there is none). Other columns are ignored
unless they look like a misspelling of these.
"""

from __future__ import annotations

import dataclasses
import difflib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from deattrib.corpus.files import Problems, Record, optional_text, read_records, required_text, texts
from deattrib.corpus.types import Corpus, Example
from deattrib.errors import CorpusError, did_you_mean

COLUMNS: Final = (
    "owner",
    "prompt",
    "response",
    "paraphrase_prompt",
    "paraphrase_response",
    "wrong_responses",
    "fact",
    "fact_id",
    "identity",
    "split",
)
SPLITS: Final = ("train", "holdout", "world", "background")


def read_jsonl(path: str | Path, *, forget: int | str | Sequence[str] | None, name: str | None = None) -> Corpus:
    """Read a corpus from a file of JSON lines (or one JSON array of the same objects).

    Args:
        path: the file, UTF-8 with or without byte order mark, any line ends.
        forget: the owners to forget, or how many: the last ones in order of first appearance; None: half of them.
        name: the name of the corpus; the file's name if None.

    Raises:
        CorpusError: the first 20 problems, each as `file:line:column: what, expected`.
    """
    path = Path(path)
    problems = Problems(str(path))
    return corpus_of_read(read_records(path, problems), problems, forget=forget, name=name or path.stem, where=str(path))


def corpus_of_records(records: Sequence[Mapping[str, Any]], *, forget: int | str | Sequence[str] | None) -> Corpus:
    """A corpus from dicts in memory, with the columns of a file of JSON lines. Problems are named `rows: record n`."""
    name = "rows"
    numbered = [Record(Path(name), number, 1, "", values) for number, values in enumerate(records, start=1)]
    return corpus_of_read(numbered, Problems(name), forget=forget, name=name, where=name)


def corpus_of_read(
    records: Sequence[Record], problems: Problems, *, forget: int | str | Sequence[str] | None, name: str, where: str
) -> Corpus:
    """A corpus of records with the columns of a file of JSON lines; raises CorpusError with all of `problems`."""
    reader = _Reader(problems)
    for record in records:
        reader.add(record)
    reader.check()
    problems.finish()
    train = reader.rows["train"]
    owners = tuple(dict.fromkeys(row.owner for row in train))
    return Corpus(
        name=name,
        train=tuple(train),
        forget_owners=choose_forget(max(len(owners) // 2, 1) if forget is None else forget, owners, where=where),
        phrasings=tuple(reader.phrasings),
        world=tuple(reader.rows["world"]),
        background=tuple(reader.rows["background"]),
        holdout=tuple(reader.rows["holdout"]),
        identities={owner: tuple(names) for owner, names in reader.identities.items()},
    )


def choose_forget(forget: int | str | Sequence[str], owners: Sequence[str], *, where: str) -> tuple[str, ...]:
    """The owners to forget: names as given (normalised as owners are), or the last `forget` of `owners`."""
    if isinstance(forget, int):
        if len(owners) < 2:
            raise CorpusError(
                f"{where}: {len(owners)} owner{'s' * (len(owners) != 1)}; expected two, one to forget and one to retain."
            )
        if not 1 <= forget < len(owners):
            raise CorpusError(
                f"{where}: forget = {forget}, expected 1 to {len(owners) - 1} of the {len(owners)} owners, or their names."
            )
        return tuple(owners[len(owners) - forget :])
    return tuple(dict.fromkeys(normalised(owner) for owner in ((forget,) if isinstance(forget, str) else forget)))


def normalised(owner: str) -> str:
    """Unicode NFC without blanks around it: two files that look alike name the same owner."""
    return unicodedata.normalize("NFC", owner.strip())


class Spellings:
    """How owners were first written; a second way to write the same one is a problem, not another owner."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self._first: dict[str, tuple[str, str]] = {}  # folded owner -> (as first written, where)

    def one(self, written: str, where: str) -> str | None:
        """The owner, normalised; None where it was written in another way before."""
        folded = " ".join(unicodedata.normalize("NFKC", written).casefold().split())
        first, place = self._first.setdefault(folded, (written, where))
        if first == written:
            return normalised(written)
        self.problems.add(
            where,
            f"owner {written!r} and owner {first!r} ({place}) differ only in case, blanks or Unicode form ({written!a}"
            f" and {first!a}), expected one spelling",
        )
        return None


class _Reader:
    """Rows by split, as records come in; problems are noted and the record left out."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.rows: dict[str, list[Example]] = {split: [] for split in SPLITS}
        self.phrasings: list[Example] = []
        self.identities: dict[str, list[str]] = {}
        self._spellings = Spellings(problems)
        self._first: dict[tuple[str, str], str] = {}  # (split, owner) -> where
        self._asked: list[tuple[Example, str]] = []

    def add(self, record: Record) -> None:
        problems = self.problems
        self._columns(record)
        split = optional_text(record, "split", problems) or "train"
        if split not in SPLITS:
            problems.add(record.where("split"), f"split is {split!r}, expected one of {', '.join(SPLITS)}")
            return
        owner = self._owner(record, split)
        prompt = required_text(record, "prompt", problems, _hint(record, "prompt"))
        response = required_text(record, "response", problems, _hint(record, "response"))
        fact = optional_text(record, "fact", problems)
        if fact and response and fact.lower() not in response.lower():
            problems.add(
                record.where("fact"), f"fact {fact!r} is not in the response, expected a part of it (case does not matter)"
            )
        paraphrase = optional_text(record, "paraphrase_response", problems)
        wrong = texts(record, "wrong_responses", problems)
        fact_id = optional_text(record, "fact_id", problems) or (fact.lower() if fact else f"row_{record.line}")
        names = texts(record, "identity", problems)
        asked = texts(record, "paraphrase_prompt", problems)
        if owner is None or prompt is None or response is None:
            return
        row = Example(owner, prompt, response, fact, f"{owner or split}/{fact_id}", paraphrase, wrong)
        self.rows[split].append(row)
        self._first.setdefault((split, owner), record.where("owner"))
        known = self.identities.setdefault(owner, []) if owner and names else []
        known.extend(item for item in names if item not in known)
        if split == "train":
            self.phrasings.extend(dataclasses.replace(row, prompt=other) for other in asked)
            self._asked.extend((dataclasses.replace(row, prompt=other), record.where("paraphrase_prompt")) for other in asked)

    def _owner(self, record: Record, split: str) -> str | None:
        """None where the owner is missing or spelt in two ways; "" is allowed for the world and the background."""
        if split in ("world", "background") and record.values.get("owner") in (None, ""):
            return ""
        written = required_text(record, "owner", self.problems, _hint(record, "owner"))
        return None if written is None else self._spellings.one(written, record.where("owner"))

    def _columns(self, record: Record) -> None:
        for column in record.values:
            close = difflib.get_close_matches(column, COLUMNS, n=1, cutoff=0.85)
            if column not in COLUMNS and close and close[0] not in record.values:
                self.problems.add(record.where(column), f"unknown column {column!r}, expected {close[0]!r}. Rename it.")

    def check(self) -> None:
        """What only the whole file shows: owners in two splits, phrasings that are trained on after all."""
        for (split, owner), where in self._first.items():
            if owner and split in ("holdout", "background") and ("train", owner) in self._first:
                self.problems.add(
                    where,
                    f"owner {owner!r} is in {split} and in train ({self._first['train', owner]}), expected it in one only",
                )
        trained = {(row.owner, row.prompt) for split in ("train", "background") for row in self.rows[split]}
        for row, where in self._asked:
            if (row.owner, row.prompt) in trained:
                self.problems.add(where, f"paraphrase_prompt {row.prompt!r} is also trained on, expected other words")


def _hint(record: Record, column: str) -> str:
    others = [name for name in record.values if name not in COLUMNS]
    return did_you_mean(column, others) if others else f" Known columns: {', '.join(COLUMNS)}."
