"""One stated score of a run: how close the unlearned model is to the oracle, over everything that counts.

Each part is a figure a with a closeness max(0.01, 1 - |a - a_oracle| / max(|a_original - a_oracle|, 0.05)), and the score is
the geometric mean of the parts: nothing that was lost is made up for by something else. Reference is the oracle's own
row throughout, two-sided: a model that answers *less* like the truth than one that never knew it has not forgotten
better. The oracle scores 1 by definition; what a second oracle of another seed scores says how far apart two
retrained models are, and is no bound: the unlearned model shares the original's seed (docs/comparing.md, part by part).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from deattrib.report.figures import figure, mapping, plain
from deattrib.report.labels import LABELS
from deattrib.report.verdict import upper_end

Group = Literal["forgotten", "kept", "fluent"]
ModelRows = Mapping[str, object]

LEAST = 0.01
"""A part that is as far from the oracle as the original, or farther: not 0, so that the other parts still order such runs."""
FLOOR = 0.05
"""Original and oracle nearer than this leave no distance to measure with; this one is taken instead."""
UTILITY_FLOOR = 0.9
"""Model utility below this share of the oracle's, or of the original's where that is lower, is a collapse."""
GIBBERISH_CEILING = 0.05
"""A share of gibberish answers above this is a collapse."""
ATTACKS = "attacks"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the score: the figure's key in `metrics.json`, what it tells about, what it is called."""

    key: str
    group: Group

    @property
    def label(self) -> str:
        return LABELS.get(self.key, self.key)


PARTS: tuple[Part, ...] = (
    Part("forget_rouge", "forgotten"),
    Part("fact_recall", "forgotten"),
    Part("attribution", "forgotten"),
    Part("ks_distance", "forgotten"),
    Part(ATTACKS, "forgotten"),
    Part("retain_rouge", "kept"),
    Part("retain_paraphrase_rouge", "kept"),
    Part("world_rouge", "kept"),
    Part("oracle_perplexity", "fluent"),
)
GROUPS: tuple[Group, ...] = ("forgotten", "kept", "fluent")


def closeness(value: float, original: float, oracle: float) -> float:
    """How close `value` is to the oracle's, in [0.01, 1]; 1 = the oracle's, 0.01 = as far away as the original or farther."""
    return max(LEAST, 1 - abs(value - oracle) / max(abs(original - oracle), FLOOR))


def closenesses(rows: ModelRows, row: str = "unlearned") -> dict[str, float]:
    """Closeness of each part of which `row`, original and oracle all have the figure.

    A figure that the original and the oracle have and an unlearned model has not (no answer is left to have a perplexity) is
    as far away as can be, 0.01: it does not leave the score.

    Args:
        rows: those of `metrics.json`.
        row: the model to look at; "oracle_second" says how far two oracles are apart.
    """
    if not mapping(rows.get(row)):
        return {}
    found = {}
    for part in PARTS:
        value = attacks(rows, row) if part.key == ATTACKS else _closeness_of(rows, row, part.key)
        if value is not None:
            found[part.key] = value
    return found


def attacks(rows: ModelRows, row: str = "unlearned") -> float | None:
    """Closeness over all attacks together: the geometric mean of each one's, so that many attacks weigh as one part."""
    each = {name: value for name in _attack_names(rows, row) if (value := _attack(rows, row, name)) is not None}
    return score(each, each)


def score(parts: Mapping[str, float], over: Collection[str]) -> float | None:
    """Geometric mean of the closenesses named in `over`, in [0.01, 1]; None without names, or where one is missing."""
    if not over or not set(over) <= set(parts):
        return None
    return math.exp(sum(math.log(parts[key]) for key in over) / len(over))


def score_of_group(parts: Mapping[str, float], over: Collection[str], group: Group) -> float | None:
    """The same over the parts of one group."""
    return score(parts, [part.key for part in PARTS if part.group == group and part.key in over])


def kept_utility(rows: ModelRows, row: str = "unlearned") -> float | None:
    """Model utility over the lower of the oracle's and the original's; None where that is 0 or missing.

    Unlearning is not to be blamed for what the original lacked: a model that was fine-tuned on fewer rows can be ahead of it.
    """
    mine, lower = figure(mapping(rows.get(row)).get("model_utility")), _lower_utility(rows)
    return None if mine is None or lower is None else mine / lower[0]


def _lower_utility(rows: ModelRows) -> tuple[float, str] | None:
    """The lower model utility of oracle and original, and whose it is; None where that is 0 or the oracle's is missing."""
    oracle, original = (figure(mapping(rows.get(name)).get("model_utility")) for name in ("oracle", "original"))
    if oracle is None:
        return None
    lower = (original, "original") if original is not None and original < oracle else (oracle, "oracle")
    return lower if lower[0] else None


def collapse(rows: ModelRows, row: str = "unlearned") -> list[str]:
    """Why a model is no contender, in words; empty for one that still works.

    A utility counts as lost where its interval ends below the floor too: few questions could not tell that from noise.
    """
    mine = mapping(rows.get(row))
    reasons = []
    kept, lower = kept_utility(rows, row), _lower_utility(rows)
    if kept is not None and lower is not None and kept < UTILITY_FLOOR:
        reference, whose = lower
        if upper_end(rows, row, "model_utility") < UTILITY_FLOOR * reference:
            reasons.append(f"utility {plain(round(kept, 3))} × the {whose}'s")
    gibberish = figure(mine.get("gibberish_rate"))
    if gibberish is not None and gibberish > GIBBERISH_CEILING:
        reasons.append(f"{gibberish:.0%} gibberish")
    return reasons


def _closeness_of(rows: ModelRows, row: str, key: str) -> float | None:
    value, original, oracle = (figure(mapping(rows.get(name)).get(key)) for name in (row, "original", "oracle"))
    if original is None or oracle is None:
        return None
    if value is None:
        return LEAST if row == "unlearned" else None
    return closeness(value, original, oracle)


def _attack_names(rows: ModelRows, row: str) -> list[str]:
    return [str(name) for name in mapping(mapping(rows.get(row)).get("attacks"))]


def attack_figure(rows: ModelRows, row: str, name: str) -> float | None:
    """What an attack got out of a model, in its own unit; None where it was not made."""
    return figure(mapping(mapping(mapping(rows.get(row)).get("attacks")).get(name)).get("figure"))


def _attack(rows: ModelRows, row: str, name: str) -> float | None:
    value, original, oracle = (attack_figure(rows, model, name) for model in (row, "original", "oracle"))
    if value is None or original is None or oracle is None:
        return None
    return closeness(value, original, oracle)
