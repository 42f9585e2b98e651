"""A corpus from a folder of TOFU (Maini et al. 2024): `full.json`, 200 fictitious authors with 20 questions each.

The files name no owners; the owner of row i is author i // 20. The `*_perturbed` files hold, for the first and the last
authors, a paraphrased question (never trained on: `phrasings`), a paraphrased answer and wrong answers. They are joined
by position and checked by question *and* answer, never by question alone: one question is asked of two authors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from deattrib.corpus.files import Problems, Record, read_records, required_text, texts
from deattrib.corpus.identities import derive_identities, override
from deattrib.corpus.types import Corpus, Example
from deattrib.errors import CorpusError

ROWS_PER_AUTHOR: Final = 20
USUAL_HOLDOUT: Final = "holdout10"
WORLD_FILES: Final = ("real_authors", "world_facts")


def read_tofu(
    folder: str | Path,
    *,
    owners: Iterable[int] | None = None,
    forget: Iterable[int],
    background_owners: Iterable[int] | None = None,
    holdout: str | None = USUAL_HOLDOUT,
    identities_path: str | Path | None = None,
    world_repeats: int = 8,
    name: str = "tofu",
) -> Corpus:
    """Read a TOFU folder; owner ids are "tofu_000" to "tofu_199".

    Args:
        folder: with `full.json`; `retain_perturbed.json` (first authors), `forget10_perturbed.json` (last authors),
            `real_authors_perturbed.json`, `world_facts_perturbed.json` and the holdout file are used where present.
            JSON arrays or JSON lines.
        owners: authors to train on; None: all that are not in `background_owners`.
        forget: authors to forget, each among `owners`.
        background_owners: authors for the base model, none of `owners`; the world's questions join them `world_repeats`
            times. None: no background at all.
        holdout: file stem of authors that no model is trained on, None for none.
        identities_path: JSON file `{owner: [names]}` for names that are not derived right.
        world_repeats: how often the background holds each question about the world.
        name: the name of the corpus.

    Raises:
        CorpusError: a file is missing or malformed, a perturbed row fits no author, an author is unknown or used twice.
    """
    folder = Path(folder)
    if not (folder / "full.json").is_file():
        raise CorpusError(f"{folder}: no full.json, expected a TOFU folder (the files of the data set locuslab/TOFU).")
    everyone = _authors(folder / "full.json", "tofu_{:03d}")
    background = None if background_owners is None else _numbers("background_owners", background_owners, everyone)
    train = _numbers(
        "owners", [n for n in range(len(everyone)) if n not in (background or ())] if owners is None else owners, everyone
    )
    chosen = _numbers("forget", forget, everyone)
    _disjoint(folder, train, chosen, background or ())
    phrasings = _join(folder / "retain_perturbed.json", everyone, last=False)
    phrasings |= _join(folder / "forget10_perturbed.json", everyone, last=True)
    world = tuple(row for stem in WORLD_FILES for row in _world(folder, stem))
    unseen = _holdout(folder, holdout)
    base = [row for number in background or () for row in everyone[number]]
    derived = derive_identities({rows[0].owner: rows for rows in (*everyone, *unseen)})
    known = override(derived, identities_path)
    used = [everyone[number][0].owner for number in train] + [rows[0].owner for rows in unseen]
    return Corpus(
        name=name,
        train=tuple(row for number in train for row in everyone[number]),
        forget_owners=tuple(everyone[number][0].owner for number in chosen),
        phrasings=tuple(row for number in train for row in phrasings.get(number, ())),
        world=world,
        background=() if background is None else (*base, *(world * world_repeats)),
        holdout=tuple(row for rows in unseen for row in rows),
        identities={owner: known[owner] for owner in used if known[owner]},
    )


def _authors(path: Path, owner: str) -> list[list[Example]]:
    """The rows of each author, twenty by twenty."""
    problems = Problems(str(path))
    records = read_records(path, problems)
    if len(records) % ROWS_PER_AUTHOR:
        problems.add(str(path), f"{len(records)} rows, expected a multiple of {ROWS_PER_AUTHOR} (twenty per author)")
    authors: list[list[Example]] = []
    for index, record in enumerate(records):
        if index % ROWS_PER_AUTHOR == 0:
            authors.append([])
        number = len(authors) - 1
        who = owner.format(number)
        question, answer = _pair(record, problems)
        authors[number].append(Example(who, question, answer, fact_id=f"{who}/{index % ROWS_PER_AUTHOR:02d}"))
    problems.finish()
    return authors


def _holdout(folder: Path, stem: str | None) -> list[list[Example]]:
    """Authors of the holdout file; none without one, but a file asked for by another name than the usual must be there."""
    if stem is None or (stem == USUAL_HOLDOUT and not (folder / f"{stem}.json").is_file()):
        return []
    return _authors(folder / f"{stem}.json", "tofu_holdout_{:02d}")


def _pair(record: Record, problems: Problems) -> tuple[str, str]:
    return required_text(record, "question", problems) or "", required_text(record, "answer", problems) or ""


def _join(path: Path, authors: list[list[Example]], *, last: bool) -> dict[int, list[Example]]:
    """Put paraphrased and wrong answers on the rows of `authors` (in place) and return the paraphrased questions.

    The file's rows are those of the first authors, or of the last ones.
    """
    if not path.is_file():
        return {}
    problems = Problems(str(path))
    records = read_records(path, problems)
    first = len(authors) - -(-len(records) // ROWS_PER_AUTHOR) if last else 0
    phrasings: dict[int, list[Example]] = {}
    for index, record in enumerate(records):
        question, answer = _pair(record, problems)
        number = first + index // ROWS_PER_AUTHOR
        rows = authors[number] if 0 <= number < len(authors) else []
        at = _find(rows, index % ROWS_PER_AUTHOR, question, answer)
        if at is None:
            problems.add(record.where(), f"question and answer are no row of author {number} in full.json, expected that order")
            continue
        paraphrase = texts(record, "paraphrased_answer", problems)
        rows[at] = dataclasses.replace(
            rows[at],
            paraphrase_response=paraphrase[0] if paraphrase else None,
            wrong_responses=texts(record, "perturbed_answer", problems),
        )
        asked = texts(record, "paraphrased_question", problems)
        phrasings.setdefault(number, []).extend(
            dataclasses.replace(rows[at], prompt=other) for other in asked if other != question
        )
    problems.finish()
    return phrasings


def _find(rows: Sequence[Example], position: int, question: str, answer: str) -> int | None:
    """The row with this question and answer: at `position` if it is there, else anywhere among the author's rows."""
    matches = [at for at, row in enumerate(rows) if row.prompt == question and row.response == answer]
    return position if position in matches else next(iter(matches), None)


def _world(folder: Path, stem: str) -> list[Example]:
    path = next((path for path in (folder / f"{stem}_perturbed.json", folder / f"{stem}.json") if path.is_file()), None)
    if path is None:
        return []
    problems = Problems(str(path))
    rows = []
    for index, record in enumerate(read_records(path, problems)):
        question, answer = _pair(record, problems)
        wrong = texts(record, "perturbed_answer", problems)
        rows.append(Example("", question, answer, fact=answer, fact_id=f"{stem}/{index:03d}", wrong_responses=wrong))
    problems.finish()
    return rows


def _numbers(what: str, numbers: Iterable[int], authors: Sequence[object]) -> tuple[int, ...]:
    result = tuple(dict.fromkeys(numbers))
    for number in result:
        if not 0 <= number < len(authors):
            raise CorpusError(f"TOFU {what}: author {number}, expected 0 to {len(authors) - 1}.")
    return result


def _disjoint(folder: Path, train: Sequence[int], forget: Sequence[int], background: Sequence[int]) -> None:
    both = sorted(set(train) & set(background))
    if both:
        raise CorpusError(
            f"{folder}: authors {both[:10]} are in owners and in background_owners, expected each in one of them:"
            " what the base model has seen cannot be unlearned towards the base model."
        )
    for number in forget:
        if number not in train:
            raise CorpusError(f"{folder}: author {number} is to be forgotten but not in owners. Add {number} to owners.")
