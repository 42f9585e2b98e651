"""The tables of docs/results.md and attacks.md, made by docs/results.py from the lines of one file in docs/results/.

A mark says which: `<!-- table: KIND FILE; KEY: ITEM | ITEM; ... -->`, over as many lines as it likes. An item is a name, or
`NAME = what the table calls it`. Kinds and their keys (all but the first are optional):

runs      rows: original, oracle, oracle_second and runs without "-seedN"; columns: figures; seeds: 0 | 1; head: first heading.
          Medians over seeds, smallest and largest in brackets. With the column `score` collapsed runs are marked.
targets   rows: one run. The unlearned model against the oracle, each target with its limit.
models    rows: figures; run; models: original | unlearned | ...; interval: models whose interval is shown;
          limits: FIGURE = 0.2 × gap | FIGURE = 0.95 × original
audit     rows: scorers; columns: what docs/results.py keeps of an audit; interval: columns whose interval is shown
tuning    rows: methods. How many trials, the best that did not collapse with its settings, the best of all.
compared  rows: entries. Scores with the intervals of the paired bootstrap, and differences to the first entry.
grid      rows: runs; columns: MODEL FIGURE (or of rounds: rouge OWNER). Figures as they are in the file.
variants  the same as compared, with differences to the entry that they are variants of.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deattrib.compare.content import REFERENCES, shared_parts
from deattrib.compare.folders import ComparedRun, Label
from deattrib.compare.markdown import COLUMNS, cell
from deattrib.compare.table import long_rows

USUAL = [key for key in COLUMNS if key not in ("score", "closeness attacks")]
KEPT = (*USUAL, "empty_rate")
KEYS = {
    "runs": {"rows", "columns", "seeds", "head"},
    "targets": {"rows"},
    "models": {"rows", "run", "models", "interval", "limits"},
    "audit": {"rows", "columns", "head", "interval"},
    "tuning": {"rows"},
    "compared": {"rows"},
    "variants": {"rows"},
    "grid": {"rows", "columns", "head"},
}
Rows = dict[str, dict[str, Any]]
Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """What a mark asks for: each key's items, name -> title."""

    kind: str
    file: str
    items: Mapping[str, Mapping[str, str]]

    @classmethod
    def parse(cls, words: str) -> Table:
        """The words of a mark. Raises ValueError."""
        first, *rest = [" ".join(part.split()) for part in words.split(";")]
        kind, _, file = first.partition(" ")
        items = {}
        for part in rest:
            key, _, value = part.partition(": ")
            pairs = [item.partition(" = ") for item in value.split(" | ")]
            items[key] = {name.strip(): title.strip() or name.strip() for name, _, title in pairs}
        if kind not in KEYS or not file or not items.get("rows") or not set(items) <= KEYS[kind]:
            known = "; ".join(f"{name}: {', '.join(sorted(keys))}" for name, keys in KEYS.items())
            raise ValueError(f"a mark says {words!r}; expected KIND FILE; rows: ..., of the kinds and keys {known}")
        return cls(kind, file, items)

    def of(self, key: str, default: Iterable[str] = ()) -> dict[str, str]:
        return dict(self.items.get(key) or {name: name for name in default})


def tables(asked: Table, lines: Sequence[Line]) -> str:
    """The table in Markdown. Raises ValueError where the file lacks what it asks for."""
    kinds: Mapping[str, Callable[[Table, Sequence[Line]], list[list[str]]]]
    kinds = {"runs": _runs, "targets": _targets, "models": _models, "audit": _audit, "tuning": _tuning, "compared": _compared}
    kinds = {**kinds, "grid": _grid, "variants": lambda asked, lines: _compared(asked, lines, other="the base")}
    head, *rows = kinds[asked.kind](asked, lines)
    shown = [head, ["---"] * len(head), *rows]
    return "\n".join("|" + "|".join(f" {text} " if text else " " for text in row) + "|" for row in shown).replace(
        " --- ", "---"
    )


def runs_of(lines: Sequence[Line], seeds: Iterable[str] = ()) -> dict[str, list[ComparedRun]]:
    """The runs of a file by name without the seed, each with the original and the oracles of its seed."""
    models: dict[tuple[str, int], Rows] = {}
    labels: dict[tuple[str, int], Label] = {}
    for line in lines:
        key = line["run"], line["seed"]
        labels[key] = Label(line["method"], line["reward"], line["variant"], line["seed"])
        row = models.setdefault(key, {}).setdefault(line["row"], {"attacks": {}, "attributions": {}, "intervals": {}})
        bounds = [line["low"], line["high"]] if line["low"] is not None else []
        kind, _, name = line["metric"].partition(" ")
        if kind == "attack":
            row["attacks"][name] = {"figure": line["value"], "interval": bounds}
        elif line["metric"].startswith("attribution by "):
            row["attributions"][line["metric"].removeprefix("attribution by ")] = line["value"]
        else:
            row[line["metric"]] = line["value"]
            row["intervals"][line["metric"]] = bounds
    wanted = {int(seed) for seed in seeds}
    found: dict[str, list[ComparedRun]] = {}
    for (name, seed), own in sorted(models.items()):
        if name and (not wanted or seed in wanted):
            seconds = {"unlearn": own["unlearned"].get("seconds")}
            metrics = {"rows": {**models.get(("", seed), {}), **own}, "seconds": seconds}
            run = ComparedRun(name, labels[name, seed], None, metrics, None, {}, {})
            found.setdefault(re.sub(r"-seed\d+$", "", name), []).append(run)
    return found


def _figures(lines: Iterable[Line], row: str, metric: str) -> list[float | None]:
    """A figure of one model by seed, seeds that several runs share once."""
    return list({line["seed"]: line["value"] for line in lines if (line["row"], line["metric"]) == (row, metric)}.values())


def _runs(asked: Table, lines: Sequence[Line]) -> list[list[str]]:
    every = runs_of(lines, asked.of("seeds"))
    rows, columns = asked.of("rows"), asked.of("columns", USUAL)
    chosen = {name: every[name] for name in _known(rows, [*every, *REFERENCES], asked.file) if name not in REFERENCES}
    over, _ = shared_parts([run for runs in (chosen or every).values() for run in runs])
    table = [["".join(asked.items.get("head", "")), "runs", *(_titled(key, title) for key, title in columns.items())]]
    for name, title in rows.items():
        row = name if name in REFERENCES else "unlearned"
        runs = chosen.get(name) or [run for runs in every.values() for run in runs]
        figures = list(long_rows(runs, over))
        fallen = [value or 0 for value in _figures(figures, row, "collapsed")] if "score" in columns else []
        cells = [cell(_figures(figures, row, key)) for key in columns]
        own = [f"*{text}*" if key == f"attribution by {name}" else text for key, text in zip(columns, cells, strict=True)]
        there = {line["seed"] for line in figures if line["row"] == row}
        table.append([title + (" (collapsed)" if fallen and 2 * sum(fallen) >= len(fallen) else ""), str(len(there)), *own])
    return table


def _titled(key: str, title: str) -> str:
    """The mark's own word for a figure, else the usual one."""
    return COLUMNS.get(key, title) if key == title else title


def _targets(asked: Table, lines: Sequence[Line]) -> list[list[str]]:
    """Each target of the demo: the limit and what was measured, medians over the runs, every run in brackets."""
    every = runs_of(lines)
    runs = [run.rows for run in every[_known(asked.of("rows"), every, asked.file)[0]]]

    def values(row: str, figure: str) -> list[float]:
        return [float(run[row][figure]) for run in runs]  # type: ignore[index]

    def gap(figure: str) -> tuple[list[float], list[float]]:
        oracle, original, mine = (values(row, figure) for row in ("oracle", "original", "unlearned"))
        limit = [0.15 * abs(a - b) for a, b in zip(original, oracle, strict=True)]
        return [abs(a - b) for a, b in zip(mine, oracle, strict=True)], limit

    def ratio(figure: str, to: str) -> list[float]:
        return [a / b for a, b in zip(values("unlearned", figure), values(to, figure), strict=True)]

    def fixed(limit: float) -> list[float]:
        return [limit] * len(runs)

    noise = [value + 0.2 for value in values("oracle_second", "ks_distance")]
    length = [abs(value - 1) for value in ratio("mean_length", "oracle")]
    more = [a - b for a, b in zip(values("unlearned", "gibberish_rate"), values("oracle", "gibberish_rate"), strict=True)]
    share = "≤ 0.15 × (original − oracle)"
    found: list[tuple[str, str, list[float], list[float], int]] = [  # name, limit in words, measured, limit, sign
        ("attribution gap", share, *gap("attribution"), -1),
        ("forget ROUGE gap", share, *gap("forget_rouge"), -1),
        ("fact recall gap", share, *gap("fact_recall"), -1),
        ("KS distance", "≤ that of two oracles + 0.2", values("unlearned", "ks_distance"), noise, -1),
        ("ToW", "≥", values("unlearned", "tow"), fixed(0.88), 1),
        ("retain ROUGE / original", "≥", ratio("retain_rouge", "original"), fixed(0.97), 1),
        ("retain, never trained phrasings / original", "≥", ratio("retain_paraphrase_rouge", "original"), fixed(0.95), 1),
        ("utility / oracle", "≥", ratio("model_utility", "oracle"), fixed(0.95), 1),
        ("distinct answers / oracle", "≥", ratio("distinct_answer_rate", "oracle"), fixed(0.9), 1),
        ("length / oracle, distance from 1", "≤", length, fixed(0.2), -1),
        ("perplexity under the oracle", "≤", values("unlearned", "oracle_perplexity"), fixed(5.0), -1),
        ("empty answers", "≤", values("unlearned", "empty_rate"), fixed(0.0), -1),
        ("gibberish − oracle", "≤", more, fixed(0.02), -1),
    ]
    table = [["target", "limit", "measured", ""]]
    for name, words, measured, limit, sign in found:
        met = sign * (statistics.median(measured) - statistics.median(limit)) >= -1e-9
        each = ", ".join(f"{value:.3f}" for value in measured)
        bound = f"{words} {'= ' if '(' in words or '+' in words else ''}{statistics.median(limit):.3f}"
        table.append([name, bound, f"{statistics.median(measured):.3f} ({each})", "met" if met else "**missed**"])
    return table


def _models(asked: Table, lines: Sequence[Line]) -> list[list[str]]:
    """Figures down, models across, of one run."""
    every = runs_of(lines)
    (run,) = every[_known(asked.of("run", every), every, asked.file)[0]]
    made = {(line["row"], line["metric"]): line for line in long_rows([run], ())}
    models, limits = asked.of("models", ("original", "unlearned", "oracle", "oracle_second")), asked.of("limits")
    table = [["", *models.values(), *(["limit", ""] if limits else [])]]
    for figure, title in asked.of("rows").items():
        there = {model: made[model, figure] for model in models if (model, figure) in made}
        cells = [_valued(there.get(model), 3, interval=model in asked.of("interval")) for model in models]
        values = {model: float(line["value"]) for model, line in there.items()}
        bound = _limit(limits.get(figure), values) if limits else []
        table.append([_titled(figure, title), *cells, *bound])
    return table


def _limit(words: str | None, values: Mapping[str, float]) -> list[str]:
    """`0.2 × gap` or `0.95 × original` with its figures, and whether it is met."""
    if words is None:
        return ["", ""]
    share, kind = float(words.split(" × ")[0]), words.split(" × ")[1]
    if kind == "original":
        met, text = values["unlearned"] >= share * values["original"], f"≥ {share} × original"
    else:
        gap, limit = abs(values["unlearned"] - values["oracle"]), share * abs(values["original"] - values["oracle"])
        met, text = gap <= limit, f"gap {gap:.3f} ≤ {share} × (original − oracle) = {limit:.3f}"
    return [text, "met" if met else "**missed**"]


def _audit(asked: Table, lines: Sequence[Line]) -> list[list[str]]:
    made: dict[tuple[str, str], Line] = {}
    for line in lines:
        made.setdefault((line["row"], line["metric"]), line)  # what two audits measured is the first one's
    rows, columns = asked.of("rows"), asked.of("columns")
    _known(rows, {scorer for scorer, _ in made}, asked.file)
    wide = asked.of("interval")
    table = [["".join(asked.of("head", ["scorer"])), *columns.values()]]
    for name, title in rows.items():
        table.append([title, *(_valued(made.get((name, key)), 2, interval=key in wide) for key in columns)])
    return table


def _tuning(asked: Table, lines: Sequence[Line]) -> list[list[str]]:
    """Of each method: trials, the best one that did not collapse with its settings, the best of all and why it collapsed."""
    rows = asked.of("rows")
    _known(rows, {line["run"] for line in lines}, asked.file)
    table = [["method", "runs", "collapsed", "best that did not", "its settings", "best of all", ""]]
    for name, title in rows.items():
        trials: dict[str, list[Line]] = {}
        for line in lines:
            if line["run"] == name:
                trials.setdefault(line["row"], []).append(line)
        whole = [trial for trial in trials.values() if all(line["value"] is not None for line in trial)]
        scored = sorted(whole, key=lambda trial: -statistics.median(line["value"] for line in trial))
        standing = [trial for trial in scored if 2 * sum(bool(line["error"]) for line in trial) < len(trial)]
        best, first = (f"{statistics.median(line['value'] for line in trial):.3f}" if trial else "–"
                       for trial in (standing[0] if standing else [], scored[0] if scored else []))  # fmt: skip
        settings = (standing[0][0]["variant"] or "the config's own") if standing else ""
        runs = sum(len(trial) for trial in trials.values())
        fallen = f"{len(scored) - len(standing)} of {len(scored)}"
        table.append([title, str(runs), fallen, best, settings, first, scored[0][0]["error"] if scored else ""])
    return table


def _compared(asked: Table, lines: Sequence[Line], *, other: str = "the first") -> list[list[str]]:
    made = {(line["run"], line["metric"]): line for line in lines}
    rows = asked.of("rows")
    _known(rows, {entry for entry, _ in made}, asked.file)
    table = [["entry", "score", "forgotten", "kept", "fluent", f"minus {other}’s", "draws above it", ""]]
    for name, title in rows.items():
        cells = [_valued(made.get((name, key)), 3, interval=True) for key in ("score", "forgotten", "kept", "fluent")]
        gap, above = made.get((name, f"minus {other}")), made.get((name, f"draws above {other}"))
        share = f"{above['value']:.0%}" if above else "–"
        table.append([title, *cells, _valued(gap, 3, interval=True), share, made[name, "score"]["error"]])
    return table


def _grid(asked: Table, lines: Sequence[Line]) -> list[list[str]]:
    made = {(line["run"], f"{line['row']} {line['metric']}"): line for line in lines}
    rows, columns = asked.of("rows"), asked.of("columns")
    _known(rows, {run for run, _ in made}, asked.file)
    _known(columns, {column for _, column in made}, asked.file)
    table = [["".join(asked.items.get("head", "")), *columns.values()]]
    return table + [
        [title, *(_valued(made.get((run, key)), 3, interval=False) for key in columns)] for run, title in rows.items()
    ]


def _valued(line: Line | None, digits: int, *, interval: bool) -> str:
    if line is None or line["value"] is None:
        return "–"
    bounds = f" [{line['low']:.{digits}f}, {line['high']:.{digits}f}]" if interval and line["low"] is not None else ""
    return f"{line['value']:.{digits}f}{bounds}"


def _known(asked: Iterable[str], there: Iterable[str], file: str) -> list[str]:
    names, missing = list(asked), [name for name in asked if name not in set(there)]
    if missing:
        raise ValueError(f"docs/results/{file}.csv has no {', '.join(missing)}; it has {', '.join(sorted(set(there)))}")
    return names
