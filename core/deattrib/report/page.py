"""The page itself: parsed run files in, one HTML text out. No network, no script, same input same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from jinja2 import Template

from deattrib.report.answers import groups, in_use
from deattrib.report.attacks import panels
from deattrib.report.curves import curves
from deattrib.report.figures import NOTHING, figure, mapping, seconds, sequence
from deattrib.report.headline import headline, is_ceiling
from deattrib.report.table import table
from deattrib.report.template import page_template
from deattrib.report.text import visible
from deattrib.report.tracks import glyph, tracks
from deattrib.report.verdict import LIMITS, value

NAMES_SHOWN = 8
SETTINGS_SHOWN = 400


@cache
def _template() -> Template:
    return page_template("deattrib.report", glyph=glyph)


def flat(raw: object, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as ("a.b.c", text) pairs in their own order; lists of plain values stay on one line."""
    if isinstance(raw, Mapping) and raw:
        pairs: list[tuple[str, str]] = []
        for key, inner in raw.items():
            pairs += flat(inner, f"{prefix}.{key}" if prefix else str(key))
        return pairs
    items = sequence(raw)
    if any(isinstance(item, (Mapping, list)) for item in items):
        return [pair for index, item in enumerate(items) for pair in flat(item, f"{prefix}[{index}]")]
    if items:
        text = ", ".join(str(item) for item in items)
    elif raw is None or raw == () or raw == [] or raw == {}:
        text = NOTHING
    else:
        text = ("yes" if raw else "no") if isinstance(raw, bool) else str(raw)
    return [(visible(prefix, 200), visible(text, 400))]


def _told(event: Mapping[str, object]) -> str:
    """What a warning, stage or stop event says, whatever its fields are called."""
    text = next(
        (event[key] for key in ("message", "text", "reason", "warning", "name", "stage") if isinstance(event.get(key), str)),
        None,
    )
    rest = {key: inner for key, inner in event.items() if key not in ("schema", "kind", "time", "timestamp") and inner != text}
    details = ", ".join(f"{key} {inner}" for key, inner in rest.items())
    return visible(f"{text} ({details})" if text and details else text or details, 600)


def _times(metrics: Mapping[str, object]) -> tuple[list[tuple[str, str, float]], str]:
    spent = [
        (str(name), number) for name, raw in mapping(metrics.get("seconds")).items() if (number := figure(raw)) is not None
    ]
    total = sum(number for _, number in spent)
    return [(visible(name, 60), seconds(number), number / total if total else 0.0) for name, number in spent], seconds(
        total
    ) if spent else ""


def _facts(metrics: Mapping[str, object], total: str) -> list[tuple[str, str]]:
    """The line under the headline: what kind of run this was."""
    corpus = mapping(metrics.get("corpus"))
    rows, forget_rows = figure(corpus.get("rows")), figure(corpus.get("forget_rows"))
    size = f"{forget_rows:.0f} of {rows:.0f} rows" if rows is not None and forget_rows is not None else ""
    found = [
        ("Corpus", corpus.get("name")),
        ("To forget", size),
        ("Method", metrics.get("method")),
        ("Reward", f"{metrics.get('reward')} (a ceiling)" if is_ceiling(metrics) else metrics.get("reward")),
        ("Preset", metrics.get("preset")),
        ("Seed", metrics.get("seed")),
        ("Time", total),
    ]
    return [(label, visible(text, 120)) for label, text in found if text not in (None, "")]


def render(
    metrics: Mapping[str, object],
    events: Sequence[Mapping[str, object]],
    answers: Mapping[str, object],
    config: Mapping[str, object],
    manifest: Mapping[str, object],
    attacks: Mapping[str, object] | None = None,
) -> str:
    """The page for parsed `metrics.json`, `events.jsonl`, `answers.json`, `config.yaml`, `manifest.json` and `attacks.json`.

    Deterministic; unknown keys are shown, missing and non-finite figures are left blank, all text is escaped.
    """
    rows = mapping(metrics.get("rows"))
    to_forget, to_keep = tracks(rows)
    names = [visible(name, 80) for name in sequence(mapping(metrics.get("corpus")).get("forget_owners"))]
    times, total = _times(metrics)
    answered = groups(answers)
    shaded, framed = in_use(answered)
    failed = [visible(text, 600) for text in sequence(metrics.get("warnings"))]
    told = {kind: [_told(event) for event in events if event.get("kind") == kind] for kind in ("stage", "warning", "stop")}
    told["warning"] += [text for text in failed if text not in told["warning"]]
    return _template().render(
        headline=headline(metrics),
        facts=_facts(metrics, total),
        names=names[:NAMES_SHOWN],
        names_left=max(0, len(names) - NAMES_SHOWN),
        tracks=(("To forget", "the disc belongs in the ring", to_forget), ("To keep", "the disc belongs on the bar", to_keep)),
        limits=LIMITS if any(track.verdict.word for track in (*to_forget, *to_keep)) else "",
        table=table(rows, mapping(metrics.get("metrics")), mapping(metrics.get("attribution_scorers"))),
        curves=curves(events, value(rows, "oracle", "reward_attribution")),
        attacks=panels(rows, attacks or {}),
        told=told,
        answers=answered,
        shaded=shaded,
        framed=framed,
        answers_scorer=visible(answers.get("scorer") or metrics.get("reward") or "the reward’s scorer", 80),
        times=times,
        total=total,
        referee=flat(metrics.get("referee")) if metrics.get("referee") else [],
        reward_scorer=flat(metrics.get("reward_scorer")) if metrics.get("reward_scorer") else [],
        config=flat(config)[:SETTINGS_SHOWN] if config else [],
        manifest=flat(manifest)[:SETTINGS_SHOWN] if manifest else [],
    )
