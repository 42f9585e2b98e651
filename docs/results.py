"""Tables of docs/results.md and docs/attacks.md from docs/results/*.csv; a test fails while a page says anything else.

    python docs/results.py                                            # write every marked table of these pages anew
    python docs/results.py --add default RUNS/*                       # first take finished runs into docs/results/default.csv
    python docs/results.py --add tuned comparisons/tuned --metrics membership_auc_loss
    python docs/results.py --add alone trak-seed1=runs/preset-ppo-trak  # under another name than the folder's
    python docs/results.py --audit demo audits/demo                   # an audit into docs/results/audit.csv
    python docs/results.py --judged alone 0 judged.json               # run -> scorer -> mean attribution, measured apart
    python docs/results.py --tuning tuned                             # every trial of `deattrib tune` into tuning.csv
    python docs/results.py --compared comparisons/tuned               # scores with their intervals into compared.csv
    python docs/results.py --rounds sequential rounds.json            # what examples/sequential.py --json left
    python docs/results.py --overlap overlap 0=runs/a 0.1=runs/b      # runs of several corpora, each with its own models
    python docs/results.py --compared differences=comparisons/other   # into differences.csv

The files are in the long format of `deattrib compare`'s results.csv. A file holds runs that were measured against the same
original and oracle: those models' figures stand in it once per seed, without a run, and a run that has others is refused.
A run taken in again replaces itself. Only figures that tables show are kept (`KEPT`, attacks, attributions by other scorers,
and what --metrics names). docs/results_table.py says what a table's mark may say.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
DATA = DOCS / "results"
PAGES = (DOCS / "results.md", DOCS / "attacks.md")
if str(DOCS) not in sys.path:
    sys.path.append(str(DOCS))

from results_table import KEPT, Table, tables  # noqa: E402

from deattrib.compare.content import REFERENCES  # noqa: E402
from deattrib.compare.folders import ComparedRun, find_runs  # noqa: E402
from deattrib.compare.table import FIELDS, csv_text, long_rows, read_csv  # noqa: E402
from deattrib.errors import RunError  # noqa: E402
from deattrib.runs.atomic import atomic_write_text  # noqa: E402

MARK = re.compile(r"(?P<mark><!-- table: (?P<words>.*?) -->\n)(?P<table>.*?)(?P<end><!-- end of table -->)", re.DOTALL)
ADDED = re.compile(r"attack |attribution by ")
Line = Mapping[str, Any]


def page(text: str, data: Path = DATA) -> str:
    """The page with each table as its mark and the files of `data` make it. Raises ValueError, RunError."""

    def made(found: re.Match[str]) -> str:
        asked = Table.parse(found["words"])
        return f"{found['mark']}{tables(asked, read_csv(data / f'{asked.file}.csv'))}\n{found['end']}"

    if text.count("<!-- table:") != len(MARK.findall(text)):
        raise ValueError("a table lacks its `<!-- end of table -->`")
    return MARK.sub(made, text)


def take_in(known: Sequence[Line], runs: Iterable[ComparedRun], metrics: Iterable[str] = ()) -> list[Line]:
    """The lines of a file with some runs added or replaced.

    Raises:
        RunError: a run that did not finish, or whose original or oracles have other figures than the file's.
    """
    kept = {*KEPT, *metrics}
    own = {(line["run"], line["seed"], line["row"], line["metric"]): line for line in known}
    for run in runs:
        if run.metrics is None:
            raise RunError(f"{run.name} has no result: {run.error}")
        own = {key: line for key, line in own.items() if key[0] != run.name}
        for line in long_rows([run], ()):
            if line["metric"] not in kept and not ADDED.match(line["metric"]):
                continue
            if line["row"] in REFERENCES:
                line |= {"run": "", "method": "", "reward": "", "variant": ""}
            key = (line["run"], line["seed"], line["row"], line["metric"])
            if key in own and own[key]["value"] != line["value"]:
                raise RunError(
                    f"{run.name} was measured against another {line['row']}: {line['metric']} is {line['value']!r} there and"
                    f" {own[key]['value']!r} in the file. Take it into a file of its own: --add NAME."
                )
            own[key] = line
    return sorted(own.values(), key=_place)


def _place(line: Line) -> tuple[Any, ...]:
    rows = ("original", "oracle", "oracle_second", "unlearned")
    return line["run"], line["seed"], rows.index(line["row"]) if line["row"] in rows else 0, line["row"], line["metric"]


def read_runs(words: Iterable[str]) -> list[ComparedRun]:
    """Run folders, NAME=FOLDER, or folders of comparisons, as runs under the names that they are to have."""
    from deattrib.runs.compare import CELLS, read_cells  # loads torch, which the page alone does without

    found: list[ComparedRun] = []
    for word in words:
        name, _, path = word.rpartition("=")
        folder = Path(path)
        if (folder / CELLS).is_file():
            for run in read_cells(folder):
                found.append(replace(run, name=f"{run.label.entry.replace(' · ', '-')}-seed{run.label.seed}"))
            continue
        if not (folder / "metrics.json").is_file():
            raise RunError(f"{folder} is neither a finished run (no metrics.json) nor a comparison (no {CELLS}).")
        run = find_runs([folder])[0]
        plain = re.sub(r"-seed\d+$", "", name or folder.name)
        found.append(replace(run, name=f"{plain}-seed{run.label.seed}"))
    return found


def audit_lines(name: str, audit: Mapping[str, Any]) -> list[Line]:
    """What an audit's table shows of each scorer; `run` is the audit's name, `row` the scorer."""
    nothing = {"method": "", "reward": "", "variant": "", "low": None, "high": None, "error": ""}
    head = {"run": name, "seed": audit["seed"], **nothing}
    lines: list[Line] = []
    for scorer in audit["scorers"]:
        if scorer["error"]:
            continue
        measured = {
            "spearman": scorer["rows"]["spearman"],
            "spearman over owners": scorer["owners"]["spearman"],
            "lds": scorer["lds"],
        }
        for metric, entry in measured.items():
            if entry is None or entry["value"] is None:
                continue
            figures = {"value": entry["value"], "low": entry["low"], "high": entry["high"]}
            lines.append({**head, "row": scorer["name"], "metric": metric, **figures})
        means = scorer["means"]
        one = {"spearman of original": scorer["by_kind"]["original"], "forwards": (scorer["cost"] or {}).get("forwards")}
        one |= {key: scorer[key] for key in ("top1_own", "auroc_own_other")}
        one |= {f"attribution of {kind}": means[kind]["attribution"] for kind in ("gibberish", "holdout") if means}
        lines += [
            {**head, "row": scorer["name"], "metric": metric, "value": value}
            for metric, value in one.items()
            if value is not None
        ]
    return lines


def judged_lines(known: Sequence[Line], seed: int, found: Mapping[str, Mapping[str, float]]) -> list[Line]:
    """The lines of a file with mean attributions measured beside the runs, run or model -> scorer -> value."""
    own = {(line["run"], line["seed"], line["row"], line["metric"]): line for line in known}
    for name, values in found.items():
        run, row = ("", name) if name in REFERENCES else (f"{name}-seed{seed}", "unlearned")
        like = next((line for key, line in own.items() if key[:3] == (run, seed, row)), None)
        if like is None:
            raise RunError(f"the file has no {name} of seed {seed} to which {', '.join(values)} could belong")
        for scorer, value in values.items():
            metric = f"attribution by {scorer}"
            own[run, seed, row, metric] = {**like, "metric": metric, "value": value, "low": None, "high": None}
    return sorted(own.values(), key=_place)


def trial_lines(method: str, tuned: Mapping[str, Any]) -> list[Line]:
    """METHOD.json of `deattrib tune`: `row` is the trial, `variant` its settings, `error` why it collapsed."""
    lines: list[Line] = []
    for trial in tuned["trials"]:
        settings = ", ".join(f"{name.removeprefix('ppo.')} {value}" for name, value in trial["settings"].items())
        each = zip(tuned["seeds"], trial["scores"], trial["collapsed"], trial["errors"], strict=True)
        for seed, score, collapsed, error in each:
            head = {
                "run": method,
                "method": method,
                "reward": "",
                "variant": settings,
                "seed": seed,
                "row": str(trial["trial"]),
            }
            why = error or ", ".join(collapsed)
            lines.append({**head, "metric": "score", "value": score, "low": None, "high": None, "error": why})
    return lines


def compared_lines(content: Mapping[str, Any]) -> list[Line]:
    """compare.json: `run` is the entry, `row` its place; medians over seeds with what the paired bootstrap says of them."""
    lines: list[Line] = []
    for place, entry in enumerate(content["entries"], 1):
        if entry["score"] is None:
            continue
        head = {name: entry[name] for name in ("method", "reward", "variant")}
        head |= {"run": entry["name"], "seed": 0, "row": str(place)}
        nothing = {"low": None, "high": None, "error": ""}
        low, high = entry["interval"] or (None, None)
        why = entry["collapsed"] or entry["incomplete"]
        score = {"metric": "score", "value": entry["score"]["median"], "low": low, "high": high, "error": why}
        lines.append({**head, **score})
        for group, spread in entry["groups"].items():
            if spread:
                lines.append({**head, **nothing, "metric": group, "value": spread["median"]})
        for key, other in (("behind", "the first"), ("against_base", "the base")):
            if difference := entry.get(key):
                bounds = {name: difference[name] for name in ("value", "low", "high")}
                lines.append({**head, **nothing, "metric": f"minus {other}", **bounds})
                lines.append({**head, **nothing, "metric": f"draws above {other}", "value": difference["better"]})
    return lines


def round_lines(rounds: Mapping[str, Any]) -> list[Line]:
    """What examples/sequential.py measured: `run` is the stage, `metric` whose rows; ROUGE-L recall."""
    nothing = {"method": "", "reward": "", "variant": "", "low": None, "high": None, "error": ""}
    return [
        {"run": stage, "row": "rouge", "metric": whose, "value": value, "seed": rounds["seed"], **nothing}
        for stage, values in rounds["rouge"].items()
        for whose, value in zip(rounds["columns"], values, strict=True)
    ]


def overlap_lines(words: Iterable[str], metrics: Iterable[str] = ()) -> list[Line]:
    """Runs of corpora that differ, so each with its own original and oracle: `run` is the name that each was given."""
    lines: list[Line] = []
    for word in words:
        kept, name = {*KEPT, *metrics}, word.partition("=")[0]
        lines += [{**line, "run": name} for line in long_rows(read_runs([word]), ()) if line["metric"] in kept]
    return lines


def _write(file: str, lines: Iterable[Line]) -> None:
    atomic_write_text(DATA / f"{file}.csv", csv_text([{name: line[name] for name in FIELDS} for line in lines]))


def _known(file: str) -> list[Line]:
    path = DATA / f"{file}.csv"
    return list(read_csv(path)) if path.is_file() else []


def main() -> None:
    """Take in what is given, then write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", nargs="+", default=[], metavar="X", help="a file's name without .csv, then folders of runs")
    parser.add_argument("--metrics", default="", help="figures to keep beside the usual ones, separated by commas")
    parser.add_argument("--audit", nargs=2, default=[], metavar=("NAME", "FOLDER"), help="an audit under a name of its own")
    parser.add_argument("--judged", nargs=3, default=[], metavar=("FILE", "SEED", "JSON"), help="attributions measured apart")
    parser.add_argument("--tuning", default="", metavar="FOLDER", help="what `deattrib tune` left there")
    parser.add_argument("--rounds", nargs=2, default=[], metavar=("NAME", "JSON"), help="what examples/sequential.py left")
    parser.add_argument("--overlap", nargs="+", default=[], metavar="X", help="a file's name, then NAME=FOLDER of runs")
    parser.add_argument("--compared", default="", metavar="[NAME=]FOLDER", help="scores and intervals of a comparison")
    given = parser.parse_args()
    more = [word.strip() for word in given.metrics.split(",") if word.strip()]
    DATA.mkdir(exist_ok=True)
    try:
        if given.add:
            _write(given.add[0], take_in(_known(given.add[0]), read_runs(given.add[1:]), more))
        if given.audit:
            name, folder = given.audit
            audit = json.loads((Path(folder) / "audit.json").read_text(encoding="utf-8"))
            _write("audit", [*(line for line in _known("audit") if line["run"] != name), *audit_lines(name, audit)])
        if given.judged:
            file, seed, path = given.judged
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            _write(file, judged_lines(_known(file), int(seed), found))
        if given.tuning:
            tuned = {
                path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(given.tuning).glob("*.json"))
            }
            kept = [line for line in _known("tuning") if line["run"] not in tuned]
            lines = [*kept, *(line for method, one in tuned.items() for line in trial_lines(method, one))]
            _write("tuning", sorted(lines, key=lambda line: (line["run"], line["seed"], int(line["row"]))))
        if given.rounds:
            name, path = given.rounds
            _write(name, round_lines(json.loads(Path(path).read_text(encoding="utf-8"))))
        if given.overlap:
            _write(given.overlap[0], overlap_lines(given.overlap[1:], more))
        if given.compared:
            file, _, folder = given.compared.rpartition("=")
            content = json.loads((Path(folder) / "compare.json").read_text(encoding="utf-8"))
            _write(file or "compared", compared_lines(content))
        for path in PAGES:
            atomic_write_text(path, page(path.read_text(encoding="utf-8")))
    except (RunError, ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"wrote {', '.join(map(str, PAGES))}")


if __name__ == "__main__":
    main()
