"""A corpus from texts that nobody asked a question about: `owner, text` rows, read as prompt and continuation.

The completion form of Lu et al. 2026 (arXiv 2605.30919, the ArXiv experiment): the prompt is how a text begins, the answer how
it goes on. How many words they took is not published; both numbers are settings here. A text that is longer than one
prompt with its answer is cut into consecutive passages, none of which shares a word with another.

Columns besides the two: `identity` (text or list; names of the owner) and `split`, as in files of prompts and responses.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from deattrib.corpus.files import Problems, Record, read_records, required_text
from deattrib.corpus.jsonl import corpus_of_read
from deattrib.corpus.types import Corpus
from deattrib.errors import CorpusError, did_you_mean

COLUMNS: Final = ("owner", "text", "identity", "split")
_WORD: Final = re.compile(r"\S+")


def read_texts(
    path: str | Path,
    *,
    prompt_words: int = 24,
    response_words: int | None = 48,
    forget: int | str | Sequence[str] | None,
    name: str | None = None,
) -> Corpus:
    """Read a corpus from a file of JSON lines (or one JSON array) with `owner` and `text`.

    Args:
        path: the file, UTF-8.
        prompt_words: words of a prompt; what stands between blanks is a word, and blanks inside prompt and answer stay as
            they are.
        response_words: most words of an answer, and a text is cut into passages of so many words and a prompt; a rest that
            has more words than a prompt is a passage too. None: one passage per text, its whole rest being the answer.
        forget: the owners to forget, or how many: the last ones in order of first appearance; None: half of them.
        name: the name of the corpus; the file's name if None.

    Raises:
        CorpusError: the first 20 problems, each as `file:line:column: what, expected`; a text must have more words than a
            prompt.
    """
    if prompt_words < 1 or (response_words is not None and response_words < 1):
        raise CorpusError(f"prompt_words = {prompt_words}, response_words = {response_words}: expected at least one word each.")
    path = Path(path)
    problems = Problems(str(path))
    cut: list[Record] = []
    for record in read_records(path, problems):
        cut.extend(_passages(record, prompt_words, response_words, problems))
    return corpus_of_read(cut, problems, forget=forget, name=name or path.stem, where=str(path))


def passages(text: str, prompt_words: int, response_words: int | None) -> Iterator[tuple[str, str]]:
    """(prompt, answer) of each passage; none where the text has no more words than a prompt."""
    words = [match.span() for match in _WORD.finditer(text)]
    step = len(words) if response_words is None else prompt_words + response_words
    for start in range(0, len(words), max(step, 1)):
        inside = words[start : start + step]
        if len(inside) > prompt_words:
            head, tail = inside[:prompt_words], inside[prompt_words:]
            yield text[head[0][0] : head[-1][1]], text[tail[0][0] : tail[-1][1]]


def _passages(record: Record, prompt_words: int, response_words: int | None, problems: Problems) -> Iterator[Record]:
    """The record once per passage, with the columns of a file of prompts and responses; problems are noted."""
    for column in record.values:
        close = difflib.get_close_matches(column, COLUMNS, n=1, cutoff=0.75)
        if column not in COLUMNS and close and close[0] not in record.values:
            problems.add(record.where(column), f"unknown column {column!r}, expected {close[0]!r}. Rename it.")
    text = required_text(record, "text", problems, _hint(record))
    if text is None:
        return
    found = list(passages(text, prompt_words, response_words))
    if not found:
        problems.add(
            record.where("text"),
            f"text has {len(_WORD.findall(text))} words, expected more than the {prompt_words} of a prompt "
            "(corpus.prompt_words)",
        )
    kept = {column: record.values[column] for column in ("owner", "identity", "split") if column in record.values}
    for prompt, response in found:
        # One text is one cluster of an interval: its passages are no independent evidence.
        values = kept | {"prompt": prompt, "response": response, "fact_id": f"text_{record.line}"}
        yield Record(record.path, record.line, record.column, record.text, values)


def _hint(record: Record) -> str:
    if "prompt" in record.values and "response" in record.values:
        return " The row has prompt and response: kind jsonl reads such files."
    return did_you_mean("text", [column for column in record.values if column not in COLUMNS])
