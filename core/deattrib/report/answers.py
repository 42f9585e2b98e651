"""Before/after answers: which rows are shown, and how a text is cut into runs of equal shade.

Shading is the reward scorer's (or the named scorer's) attribution per token, in six steps: colour only ever lies *under* text
of full contrast, and strong shades also underline. The fact that the row asks about is marked wherever it occurs, by the rule
of `fact_recall`: as a substring, in any case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from deattrib.report.figures import figure, mapping, sequence
from deattrib.report.text import LIMIT, visible

LEVELS = 6
OPEN = {True: 8, False: 4}
"""Forget and retain rows shown at once (spread evenly over the file, not picked by outcome)."""
FOLDED = {True: 72, False: 36}
"""Further rows under a fold; what is beyond stays in answers.json."""
MODELS = ("original", "unlearned", "oracle")


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive characters of one shade. `level`: 0 (none) to 5."""

    text: str
    level: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive runs inside or outside the fact: one frame around a fact, whatever the shades in it."""

    fact: bool
    runs: list[Run]


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's answer. `stated`: whether it contains the fact, None where the row has none."""

    text: list[Stretch]
    attribution: str
    stated: bool | None
    empty: bool
    unshaded: bool


@dataclass(frozen=True, slots=True)
class AnswerRow:
    owner: str
    prompt: str
    truth: list[Stretch]
    forget: bool
    answers: dict[str, Answer | None]


@dataclass(frozen=True, slots=True)
class AnswerGroup:
    """Forget rows or retain rows: `first` at once, `rest` under a fold, `left` only in the file."""

    forget: bool
    first: list[AnswerRow]
    rest: list[AnswerRow]
    total: int
    left: int


def level(share: float | None) -> int:
    """Attribution share in [0, 1] (clipped) → shade 0 … 5."""
    return 0 if share is None else min(LEVELS - 1, int(min(1.0, max(0.0, share)) * LEVELS))


def pieces(raw: object) -> list[tuple[str, int]]:
    """`tokens` of answers.json → (text, shade); malformed entries are left out."""
    found = []
    for entry in sequence(raw):
        pair = sequence(entry)
        if len(pair) == 2 and isinstance(pair[0], str):
            found.append((pair[0], level(figure(pair[1]))))
    return found


def stretches(parts: Sequence[tuple[str, int]], fact: str) -> list[Stretch]:
    """Cut (text, shade) pieces at the ends of the fact, then into runs of equal shade; at most `LIMIT` characters in all."""
    text = "".join(part for part, _ in parts)
    shades = [shade for part, shade in parts for _ in part]
    marked = [False] * len(text)
    if fact.strip():
        for match in re.finditer(re.escape(fact.strip()), text, re.IGNORECASE):
            marked[match.start() : match.end()] = [True] * (match.end() - match.start())
    result = []
    for is_fact, inside in groupby(range(min(len(text), LIMIT)), key=marked.__getitem__):
        runs = []
        for shade, equal in groupby(inside, key=shades.__getitem__):
            indices = list(equal)
            runs.append(Run(visible(text[indices[0] : indices[-1] + 1]), shade))
        result.append(Stretch(is_fact, runs))
    if len(text) > LIMIT:
        result.append(Stretch(False, [Run(f" … [+{len(text) - LIMIT} characters]", 0)]))
    return result


def answer(raw: object, fact: str) -> Answer | None:
    """One model's entry of a row, or None where there is none. Tokens that do not spell the text are not used for shading."""
    entry = mapping(raw)
    if not entry:
        return None
    text = entry.get("text")
    text = text if isinstance(text, str) else ""
    parts = pieces(entry.get("tokens"))
    spelled = "".join("".join(part for part, _ in parts).split()) == "".join(text.split())
    used = parts if parts and spelled else [(text, 0)]
    if used[0][0][:1] == " ":
        used = [(used[0][0].lstrip(" "), used[0][1]), *used[1:]]
    share = figure(entry.get("attribution"))
    stated = fact.strip().lower() in text.lower() if fact.strip() else None
    unshaded = bool(parts) and not spelled
    return Answer(stretches(used, fact), "" if share is None else f"{share:.2f}", stated, not text.strip(), unshaded)


def row(raw: Mapping[str, object]) -> AnswerRow:
    """One row of answers.json; missing fields are empty."""
    fact = raw.get("fact")
    fact = fact if isinstance(fact, str) else ""
    truth = raw.get("truth")
    return AnswerRow(
        visible(raw.get("owner") or "", 120),
        visible(raw.get("prompt") or "", 600),
        stretches([(truth if isinstance(truth, str) else "", 0)], fact),
        raw.get("forget") is True,
        {model: answer(raw.get(model), fact) for model in MODELS},
    )


def spread(total: int, wanted: int) -> list[int]:
    """`wanted` indices spread evenly over range(total), in order."""
    wanted = min(total, wanted)
    return [index * total // wanted for index in range(wanted)]


def groups(raw: Mapping[str, object]) -> list[AnswerGroup]:
    """Forget rows, then retain rows; groups without rows are left out."""
    every = [mapping(entry) for entry in sequence(raw.get("rows")) if mapping(entry)]
    result = []
    for forget in (True, False):
        mine = [entry for entry in every if (entry.get("forget") is True) == forget]
        chosen = spread(len(mine), OPEN[forget])
        others = [index for index in range(len(mine)) if index not in set(chosen)][: FOLDED[forget]]
        if mine:
            left = len(mine) - len(chosen) - len(others)
            result.append(AnswerGroup(forget, [row(mine[i]) for i in chosen], [row(mine[i]) for i in others], len(mine), left))
    return result


def in_use(shown: Sequence[AnswerGroup]) -> tuple[bool, bool]:
    """(whether any word of the rows shown or folded is shaded, whether any fact is framed): what a legend has to explain."""
    cards = [entry for group in shown for entry in (*group.first, *group.rest)]
    texts = [entry.truth for entry in cards] + [one.text for entry in cards for one in entry.answers.values() if one]
    every = [stretch for text in texts for stretch in text]
    return any(run.level for stretch in every for run in stretch.runs), any(stretch.fact for stretch in every)
