"""Finding the names of owners in their own texts.

Where a corpus names its owners only in passing, the name is the capitalised sequence of words that most of an owner's
rows have and hardly anybody else's: document frequency within the owner, times the owner's share of all occurrences
(the idea of tf-idf, over owners instead of documents). A longer sequence wins over a part of itself as long as it keeps
most of the occurrences, so "Moshe Ben-David" beats "Ben-David" and "Does Moshe Ben-David" does not beat it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from deattrib.corpus.files import Problems, Record, explain_json, is_broken, parse_json, read_text
from deattrib.corpus.types import Example
from deattrib.errors import CorpusError, did_you_mean

_LETTER: Final = r"[^\W\d_]"
_WORD: Final = rf"{_LETTER}+(?:['’.\-]{_LETTER}+)*"
_TOKEN: Final = re.compile(rf"{_WORD}|[^\w\s]|\d+")
_POSSESSIVE: Final = re.compile(r"['’]s?$")
_PARTICLES: Final = frozenset(
    [
        "al",
        "bin",
        "bint",
        "da",
        "das",
        "de",
        "del",
        "della",
        "der",
        "di",
        "dos",
        "du",
        "e",
        "el",
        "ibn",
        "la",
        "las",
        "le",
        "los",
        "ten",
        "ter",
        "van",
        "von",
        "vom",
        "y",
        "zu",
        "zur",
    ]
)
_NOT_NAMES: Final = frozenset(
    re.findall(
        r"\w+",
        "a all an and are as at being both by can considering could did do does during for from given had has "
        "have he her hers his how if in is it its like many may no not of on one or our she since so some "
        "such that the their there these they this those through throughout to was were what when where which "
        "while who whom whose why with would yes you your author book books mr mrs ms dr ",
    )
)
_LONGEST: Final = 5  # words of a name, particles included
_LEAST: Final = 0.3  # a name is in at least this share of its owner's rows
_KEEPS: Final = 0.6  # a longer name keeps at least this share of the rows of its part

Names = tuple[str, ...]


def derive_identities(rows_by_owner: Mapping[str, Sequence[Example]]) -> dict[str, Names]:
    """The names of each owner: the full name, then its last, first and other words where few others have use for them.

    Args:
        rows_by_owner: the rows of each owner; other owners are what a name is told from.

    Returns:
        One tuple per owner; empty where no sequence is in at least _LEAST of the owner's rows (two at least).
    """
    counts = {owner: _row_counts(rows) for owner, rows in rows_by_owner.items()}
    total: Counter[Names] = Counter()
    owners_with: Counter[Names] = Counter()
    for found in counts.values():
        total.update(found)
        owners_with.update(found.keys())
    result = {}
    for owner, found in counts.items():
        name = _full_name(found, total, rows=len(rows_by_owner[owner]))
        parts = _parts(name, found, owners_with, most=max(3, len(counts) // 20))
        result[owner] = (" ".join(name), *parts) if name else ()
    return result


def read_identities(path: str | Path) -> dict[str, Names]:
    """An override file: a JSON object `{owner: [full name, other names...]}`. Raises CorpusError on anything else."""
    text = read_text(path)
    try:
        content: Any = parse_json(text)
    except (ValueError, RecursionError) as error:
        where, what = explain_json(error)
        raise CorpusError(f"{path}:{where or '1:1'}: {what}, expected an object of owner: [names].") from error
    if not isinstance(content, dict):
        raise CorpusError(f"{path}:1:1: a {type(content).__name__}, expected an object of owner: [names].")
    problems = Problems(str(path))
    result = {}
    for owner, names in content.items():
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
            problems.add(Record(Path(path), 1, 1, "", {}).where(owner), "expected a list of at least one name")
            continue
        if any(is_broken(text) for text in (owner, *names)):
            problems.add(f"{path}: {owner!r}", "owner or name holds half of a surrogate pair, which is no character")
            continue
        result[unicodedata.normalize("NFC", owner)] = tuple(names)
    problems.finish()
    return result


def override(identities: Mapping[str, Names], path: str | Path | None) -> dict[str, Names]:
    """`identities` with those of the file at `path` in place of the derived ones.

    Raises CorpusError where the file names an owner that is not in `identities`.
    """
    result = dict(identities)
    for owner, names in ({} if path is None else read_identities(path)).items():
        if owner not in result:
            raise CorpusError(
                f"{path}: unknown owner {owner!r}, who has no row in the corpus.{did_you_mean(owner, result)} Correct the "
                "name or take it out."
            )
        result[owner] = names
    return result


# -- counting ----------------------------------------------------------------------------------------------------------
def _row_counts(rows: Sequence[Example]) -> Counter[Names]:
    """In how many rows each candidate occurs."""
    counts: Counter[Names] = Counter()
    for row in rows:
        counts.update({part for text in (row.prompt, row.response) for part in _candidates(text)})
    return counts


def _candidates(text: str) -> Iterator[Names]:
    """Every stretch of 1 to _LONGEST words that begins and ends with a capitalised word, particles allowed between."""
    for run in _runs(unicodedata.normalize("NFC", text)):
        for start in range(len(run)):
            for stop in range(start + 1, min(len(run), start + _LONGEST) + 1):
                if _is_capital(run[start]) and _is_capital(run[stop - 1]):
                    yield tuple(run[start:stop])


def _is_capital(word: str) -> bool:
    """Also "d'Arc" and "al-Amin": a capital behind at most three letters and an apostrophe or hyphen."""
    return word[:1].isupper() or any(word[at - 1] in "'’-" and word[at].isupper() for at in range(2, min(len(word), 5)))


def _runs(text: str) -> Iterator[list[str]]:
    run: list[str] = []
    for match in _TOKEN.finditer(text):
        word = _POSSESSIVE.sub("", match.group())
        capital = _is_capital(word) and (bool(run) or word.lower() not in _NOT_NAMES)
        if capital or (run and word in _PARTICLES):
            run.append(word)
        elif run:
            yield run
            run = []
        if run and word != match.group():  # a possessive ends a name
            yield run
            run = []
    if run:
        yield run


def _full_name(found: Counter[Names], total: Counter[Names], *, rows: int) -> Names:
    def score(name: Names) -> float:
        return found[name] * found[name] / total[name]

    least = max(2.0, rows * _LEAST)
    likely = [name for name, count in found.items() if count >= least]
    if not likely:
        return ()
    longest_first = sorted((name for name in likely if len(name) > 1), key=lambda name: (-score(name), -len(name), name))
    if not longest_first:  # one word alone is rather a place or a genre unless most rows have it
        frequent = [name for name in likely if found[name] >= rows / 2]
        return max(frequent, key=lambda name: (score(name), name), default=())
    best = longest_first[0]
    for name in sorted(longest_first, key=len):
        if len(name) > len(best) and _within(best, name) and score(name) >= _KEEPS * score(best):
            best = name
    return best


def _within(part: Names, whole: Names) -> bool:
    return any(whole[start : start + len(part)] == part for start in range(len(whole) - len(part) + 1))


def _parts(name: Names, found: Counter[Names], owners_with: Counter[Names], *, most: int) -> Iterator[str]:
    """Last word, first word, then the words between, where at most `most` owners use them."""
    if len(name) < 2:
        return
    for word in dict.fromkeys((name[-1], name[0], *name[1:-1])):
        common = word.lower() in _NOT_NAMES or word.lower() in _PARTICLES
        if len(word) > 1 and not common and found[(word,)] and owners_with[(word,)] <= most:
            yield word
