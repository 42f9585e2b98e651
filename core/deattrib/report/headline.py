"""The title and the plain sentence at the top: what was forgotten, what was kept, and every "but" that belongs there.

Built from the figures alone, so it cannot be kinder than they are. "Forgotten" is said only if *every* measure of forgetting
that the run has (facts stated, the referee's attribution, ROUGE) covered at least 85 % of the way to the oracle, and never
when the answers are broken: a model that says "The The The" states no facts either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deattrib.report.figures import figure, mapping, percent, sequence, show
from deattrib.report.measures import BY_KEY
from deattrib.report.verdict import HALF, NEAR, State, judge, share_left, value

FORGETTING = ("fact_recall", "attribution", "forget_rouge")
KEEPING = ("retain_rouge", "retain_paraphrase_rouge", "world_rouge", "model_utility")
FLUENCY = ("gibberish_rate", "empty_rate", "distinct_answer_rate")

CEILING = (
    "A ceiling, never a contender: the reward compares with models retrained without the owners, which unlearning is there to "
    "avoid."
)
_ENDINGS = {
    "good": ", and the rest kept",
    "part": ", at some cost to the rest",
    "bad": ", and much else was lost",
    "none": "",
}


@dataclass(frozen=True, slots=True)
class Headline:
    """`state` is the worst part of the whole; `forgotten` is true only for the first, unreserved case."""

    state: State
    forgotten: bool
    title: str
    sentence: str
    caveats: tuple[str, ...]


def _worst(rows: Mapping[str, object], keys: tuple[str, ...]) -> State:
    states = {judge(BY_KEY[key], rows).state for key in keys}
    worst: tuple[State, ...] = ("bad", "part", "good")
    return next((state for state in worst if state in states), "none")


def _asked(corpus: Mapping[str, object]) -> str:
    owners = figure(corpus.get("owners"))
    names = sequence(corpus.get("forget_owners"))
    if not names:
        return "The model was asked to forget part of its owners"
    if owners is None or owners < len(names):
        return f"The model was asked to forget {len(names)} owner{'s' if len(names) > 1 else ''}"
    return f"The model was asked to forget {len(names)} of {owners:.0f} owners"


def _now(rows: Mapping[str, object], outcome: str, whose: str) -> str:
    """The clause with the figures, by the first measure of forgetting that the unlearned model has."""
    key = next((key for key in FORGETTING if value(rows, "unlearned", key) is not None), None)
    if key is None:
        return ", but no measure of forgetting was taken"
    mine, original, oracle = (value(rows, row, key) for row in ("unlearned", "original", "oracle"))
    joint, still = {
        "forgotten": (": it", "now"),
        "partly": (" and did so only in part: it", "still"),
        "kept": (" and did not: it", "still"),
    }.get(outcome, (": it", "now"))
    unit = BY_KEY[key].unit
    here = show(mine, unit)
    claim = {
        "fact_recall": f"{still} states {here} of {whose} facts",
        "attribution": f"{still} gives answers that are attributed to {'them' if whose == 'their' else 'it'} at {here}",
        "forget_rouge": f"{still} matches {whose} answers at ROUGE {here}",
    }[key]
    others = []
    if original is not None:
        others.append(f"the original {show(original, unit)}")
    if oracle is not None:
        others.append(f"a model retrained without {'them' if whose == 'their' else 'it'} {show(oracle, unit)}")
    return f"{joint} {claim}" + (f" ({', '.join(others)})" if others else "")


def _kept(rows: Mapping[str, object]) -> str:
    mine, original = value(rows, "unlearned", "retain_rouge"), value(rows, "original", "retain_rouge")
    if mine is None or not original:
        return "; what it keeps about everybody else was not measured."
    share = mine / original
    if share >= 1 - 1e-9:
        return " and keeps its full score on questions about everybody else."
    joint = " and keeps" if share >= 0.97 else " and keeps only"
    return f"{joint} {percent(share)} of its score on questions about everybody else."


def _outcome(rows: Mapping[str, object]) -> str:
    """ "forgotten", "partly", "kept", "moot" (original and oracle do not differ) or "unknown"."""
    left = [share for key in FORGETTING if (share := share_left(rows, key)) is not None]
    if left:
        if max(left) <= NEAR:
            return "forgotten"
        return "kept" if min(left) > HALF else "partly"
    measured = any(value(rows, "unlearned", key) is not None for key in FORGETTING)
    compared = any(value(rows, "oracle", key) is not None and value(rows, "original", key) is not None for key in FORGETTING)
    return "moot" if measured and compared else "unknown"


def _caveats(rows: Mapping[str, object], broken: bool) -> tuple[str, ...]:
    found: list[str] = []
    if broken:
        rates = [
            f"{BY_KEY[key].label.lower()} {show(value(rows, 'unlearned', key), 'share')} "
            f"(oracle {show(value(rows, 'oracle', key), 'share')})"
            for key in FLUENCY
            if judge(BY_KEY[key], rows).state == "bad"
        ]
        found.append(f"The answers are damaged: {', '.join(rates)}. Low figures of such a model are no proof of forgetting.")
    said = next((key for key in FORGETTING if value(rows, "unlearned", key) is not None), "")
    for key in (*FORGETTING, "extraction_strength"):
        left = share_left(rows, key)
        if left is None or abs(left) <= NEAR or (key == said and left > 0):
            continue
        measure = BY_KEY[key]
        mine, oracle = show(value(rows, "unlearned", key), measure.unit), show(value(rows, "oracle", key), measure.unit)
        side = f"{100 * left:.0f} % of the way to the oracle is left" if left > 0 else "past the oracle, which is a miss too"
        found.append(f"{measure.label}: {mine} against the oracle’s {oracle} ({side}).")
    for key in KEEPING[1:]:
        if judge(BY_KEY[key], rows).state in ("part", "bad"):
            measure, base = BY_KEY[key], "oracle" if key == "model_utility" else "original"
            kept, before = value(rows, "unlearned", key), value(rows, base, key)
            found.append(f"{measure.label}: {show(kept, measure.unit)}, where the {base} has {show(before, measure.unit)}.")
    return tuple(found)


def _alone(rows: Mapping[str, object]) -> str:
    """What changed, where there is no retrained model to say how much is enough."""
    moved = []
    for measure in (BY_KEY[key] for key in (*FORGETTING, "extraction_strength")):
        before, mine = (value(rows, row, measure.key) for row in ("original", "unlearned"))
        if before is not None and mine is not None:
            moved.append(f"{measure.label} {show(before, measure.unit)} → {show(mine, measure.unit)}")
    advice = "No model retrained without them says how far is far enough: give model.base or model.oracle to have one."
    return (f"From original to unlearned: {', '.join(moved)}. " if moved else "") + advice


def is_ceiling(metrics: Mapping[str, object]) -> bool:
    """Whether a run was trained on a reward that has seen models retrained without the owners; older runs do not say so."""
    scorers = [mapping(scorer) for scorer in sequence(metrics.get("reward_scorer"))]
    exact = metrics.get("ceiling") is True or any(scorer.get("fidelity") == "exact" for scorer in scorers)
    return exact and metrics.get("rewarded", metrics.get("method", "dareu") == "dareu") is True


def headline(metrics: Mapping[str, object]) -> Headline:
    """Title, sentence and caveats for a `metrics.json`; missing figures are said to be missing, never guessed."""
    rows = mapping(metrics.get("rows"))
    corpus = mapping(metrics.get("corpus"))
    outcome, keeping = _outcome(rows), _worst(rows, KEEPING)
    broken, ceiling = _worst(rows, FLUENCY) == "bad", is_ceiling(metrics)
    past = outcome == "forgotten" and any((share_left(rows, key) or 0.0) < -NEAR for key in FORGETTING)
    ending = _ENDINGS[keeping]
    title = {
        "forgotten": ("Forgotten past the oracle" if past else "Forgotten") + ending,
        "partly": "Only partly forgotten" + ending,
        "kept": "Not forgotten" + ending,
        "moot": "There was nothing to forget",
        "unknown": "What was forgotten is not known",
    }[outcome]
    if broken:
        title = "Not usable: many answers are broken"
    whose = "its" if len(sequence(corpus.get("forget_owners"))) == 1 else "their"
    sentence = _asked(corpus) + _now(rows, outcome, whose) + _kept(rows)
    caveats = _caveats(rows, broken)
    title = f"Ceiling: {title[0].lower()}{title[1:]}" if ceiling else title
    if outcome == "moot":
        caveats = ("By these measures the original was no different from a model retrained without them.", *caveats)
    if outcome == "unknown" and not any(value(rows, "oracle", key) is not None for key in FORGETTING):
        title, caveats = "How much is forgotten, no oracle says", (_alone(rows), *caveats)
    if ceiling:
        caveats = (CEILING, *caveats)
    clean = outcome == "forgotten" and not broken and not past
    state: State = "good" if clean and keeping == "good" else "part" if clean or outcome in ("partly", "forgotten") else "bad"
    if broken or outcome == "kept" or keeping == "bad":
        state = "bad"
    elif outcome in ("moot", "unknown"):
        state = "none"
    return Headline(state, clean, title, sentence, caveats)
