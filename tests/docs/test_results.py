"""docs/results.md and docs/attacks.md say what docs/results/*.csv say; the command adds runs without losing or mixing any."""

from __future__ import annotations

import csv
import importlib.util
import json
import statistics
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from tests.docs.fences import DOCS

from deattrib.compare.table import FIELDS, csv_text, read_csv
from deattrib.errors import RunError

FIGURES = {"attribution": (0.8, 0.02, 0.1), "forget_rouge": (0.9, 0.4, 0.5), "fact_recall": (0.5, 0.0, 0.25)}


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results", DOCS / "results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["results"] = module
    spec.loader.exec_module(module)
    return module


RESULTS = load()


def finished(folder: Path, *, seed: int = 0, oracle: float = 0.0, **unlearned: Any) -> Path:
    """A run's folder as a finished run leaves it; `oracle` is added to the oracle's figures."""
    models: dict[str, dict[str, Any]] = {"original": {}, "unlearned": {}, "oracle": {}}
    for figure, (original, retrained, mine) in FIGURES.items():
        for model, value in zip(models.values(), (original, mine, retrained + oracle), strict=True):
            model[figure] = value
    models["unlearned"] |= unlearned
    metrics = {"seed": seed, "method": "dareu", "reward": "classifier", "rows": models, "seconds": {"unlearn": 7.5}}
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps({"versions": {}}), encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump({"name": "demo"}), encoding="utf-8")
    return folder


def taken(*words: str | Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = RESULTS.take_in([], RESULTS.read_runs(map(str, words)))
    return lines


def written(folder: Path, lines: list[dict[str, Any]]) -> Path:
    (folder / "lines.csv").write_text(csv_text(lines), encoding="utf-8")
    return folder / "lines.csv"


def table(words: str, lines: list[dict[str, Any]]) -> list[list[str]]:
    made = RESULTS.tables(RESULTS.Table.parse(words), lines)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in made.splitlines()]


@pytest.mark.parametrize(
    ("path", "least"), zip(RESULTS.PAGES, (10, 1), strict=True), ids=lambda value: getattr(value, "name", "")
)
def test_a_page_is_up_to_date(path: Path, least: int) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("<!-- table: ") >= least
    assert RESULTS.page(text) == text, "run `python docs/results.py`"


@pytest.mark.parametrize("file", ["tofu", "smollm2"])
def test_figures_of_the_loss_in_the_limits_are_those_measured(file: str) -> None:
    oracle = [
        line["value"] for line in read_csv(DOCS / "results" / f"{file}.csv")
        if (line["row"], line["metric"]) == ("oracle", "membership_auc_loss")
    ]  # fmt: skip
    (said,) = [
        line for line in (DOCS / "limits.md").read_text(encoding="utf-8").split("\n- ") if line.startswith("Membership inf")
    ]
    least, most = f"{min(oracle):.3f}", f"{max(oracle):.3f}"
    assert f" {least if least == most else f'{least}–{most}'} " in said


def test_a_table_is_the_median_of_what_the_file_says() -> None:
    """The page's first table against the file, read a second way."""
    with (DOCS / "results" / "default.csv").open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["metric"] == "ks_distance"]
    mine = sorted(float(line["value"]) for line in lines if line["run"].startswith("classifier-seed"))
    assert len(mine) == 3
    shown = f"{statistics.median(mine):.3f} [{mine[0]:.3f}, {mine[-1]:.3f}]"
    (row, *_) = [
        line for line in RESULTS.PAGES[0].read_text(encoding="utf-8").splitlines() if line.startswith("| classifier | 3 ")
    ]
    assert row.split(" | ")[6] == shown


@pytest.mark.parametrize("path", sorted((DOCS / "results").glob("*.csv")), ids=lambda path: path.name)
def test_a_file_is_small_sorted_and_names_no_place(path: Path) -> None:
    lines = read_csv(path)
    assert lines and path.stat().st_size < 500_000
    assert len({(line["run"], line["seed"], line["row"], line["metric"]) for line in lines}) == len(lines)
    assert not [line["run"] for line in lines if "/" in line["run"] or "\\" in line["run"]]
    assert csv_text([{name: line[name] for name in FIELDS} for line in lines]) == path.read_text(encoding="utf-8")


def test_runs_are_taken_in_once_and_tables_are_their_medians(tmp_path: Path) -> None:
    folders = [finished(tmp_path / f"a-seed{seed}", seed=seed, fact_recall=seed / 4) for seed in (0, 1, 2)]
    lines = taken(*folders)
    again = RESULTS.take_in(lines, RESULTS.read_runs([str(folders[1])]))
    assert again == lines
    assert len([line for line in lines if line["row"] == "oracle"]) == 3 * len(FIGURES)  # once per seed
    rows = table("runs x; rows: original | a = ours; columns: fact_recall | seconds", lines)
    assert rows[0] == ["", "runs", "fact recall", "seconds"]
    assert rows[2:] == [["original", "3", "0.500", "–"], ["ours", "3", "0.250 [0.000, 0.500]", "7.500"]]
    assert table("runs x; seeds: 2; rows: a; columns: fact_recall", lines)[2] == ["a", "1", "0.500"]


def test_a_score_is_the_geometric_mean_of_the_closenesses(tmp_path: Path) -> None:
    lines = taken(finished(tmp_path / "a-seed0"))
    parts = [1 - abs(mine - oracle) / (original - oracle) for original, oracle, mine in FIGURES.values()]
    expected = (parts[0] * parts[1] * parts[2]) ** (1 / 3)
    assert table("runs x; rows: a; columns: score", lines)[2] == ["a", "1", f"{expected:.3f}"]


def test_a_run_gets_another_name_and_a_changed_run_replaces_itself(tmp_path: Path) -> None:
    lines = taken(f"ours-seed0={finished(tmp_path / 'demo-classifier')}")
    assert {line["run"] for line in lines} == {"", "ours-seed0"}
    changed = f"ours={finished(tmp_path / 'better', attribution=0.03)}"
    lines = RESULTS.take_in(lines, RESULTS.read_runs([changed]))
    (line,) = [line for line in lines if (line["run"], line["metric"]) == ("ours-seed0", "attribution")]
    assert line["value"] == 0.03


def test_runs_of_another_oracle_are_refused(tmp_path: Path) -> None:
    lines = taken(finished(tmp_path / "a-seed0"))
    with pytest.raises(RunError, match="b-seed0 was measured against another oracle: attribution is"):
        RESULTS.take_in(lines, RESULTS.read_runs([str(finished(tmp_path / "b-seed0", oracle=0.01))]))


def test_what_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="neither a finished run"):
        RESULTS.read_runs([str(tmp_path)])


def test_attributions_measured_apart_are_shown_and_the_reward_s_own_in_italics(tmp_path: Path) -> None:
    lines = taken(finished(tmp_path / "trak-seed0"))
    lines = RESULTS.judged_lines(lines, 0, {"trak": {"trak": 0.25, "loss": 0.5}, "oracle": {"loss": 0.125}})
    words = "runs x; rows: oracle | trak; columns: attribution by trak = trak | attribution by loss = loss"
    assert table(words, lines)[2:] == [["oracle", "1", "–", "0.125"], ["trak", "1", "*0.250*", "0.500"]]
    with pytest.raises(RunError, match="no gradient of seed 0"):
        RESULTS.judged_lines(lines, 0, {"gradient": {"trak": 0.25}})


def test_figures_of_one_run_stand_with_their_limits(tmp_path: Path) -> None:
    lines = taken(finished(tmp_path / "a-seed0"))
    words = (
        "models x; run: a; models: original | unlearned | oracle; limits: forget_rouge = 0.1 × gap | attribution = 0.2 × gap;"
        " rows: forget_rouge | attribution = the referee's | fact_recall"
    )
    assert table(words, lines)[2:] == [
        ["forget ROUGE", "0.900", "0.500", "0.400", "gap 0.100 ≤ 0.1 × (original − oracle) = 0.050", "**missed**"],
        ["the referee's", "0.800", "0.100", "0.020", "gap 0.080 ≤ 0.2 × (original − oracle) = 0.156", "met"],
        ["fact recall", "0.500", "0.250", "0.000", "", ""],
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("runs x; rows: nobody", "no nobody; it has a"),
        ("list x; rows: a", "expected KIND FILE"),
        ("runs x; row: a", "expected KIND"),
    ],
)
def test_a_wrong_mark_is_refused(tmp_path: Path, words: str, said: str) -> None:
    lines = taken(finished(tmp_path / "a-seed0"))
    with pytest.raises(ValueError, match=said):
        table(words, lines)


def test_trials_are_told_with_the_best_that_did_not_collapse(tmp_path: Path) -> None:
    trials = [
        {"trial": 0, "settings": {}, "scores": [0.2, 0.4], "collapsed": [[], []], "errors": ["", ""]},
        {"trial": 1, "settings": {"ppo.steps": 9, "beta": 0.5}, "scores": [0.8, 0.6],
         "collapsed": [["28% gibberish"], ["utility 0.5"]], "errors": ["", ""]},
        {"trial": 2, "settings": {"ppo.steps": 3, "beta": 0.1}, "scores": [0.5, 0.4], "collapsed": [[], ["30% gibberish"]],
         "errors": ["", ""]},
        {"trial": 3, "settings": {"ppo.steps": 4}, "scores": [0.9, None], "collapsed": [[], []], "errors": ["", "x"]},
    ]  # fmt: skip
    lines = RESULTS.trial_lines("npo", {"seeds": [7, 8], "trials": trials})
    assert read_csv(written(tmp_path, lines)) == lines
    head, _, row = table("tuning tuning; rows: npo", lines)
    told = dict(zip(head, row, strict=True))
    # trial 2 collapsed in half of its seeds, trial 3 has no score on one of them
    assert told == {"method": "npo", "runs": "8", "collapsed": "2 of 3", "best that did not": "0.300",
                    "its settings": "the config's own", "best of all": "0.700", "": "28% gibberish"}  # fmt: skip


def test_scores_of_a_comparison_keep_their_intervals(tmp_path: Path) -> None:
    spread = {"median": 0.5, "low": 0.4, "high": 0.6}
    usual = {"method": "npo", "reward": "classifier", "variant": "", "collapsed": "", "incomplete": "", "contends": True}
    first = {"name": "ours", "score": {**spread, "median": 0.875}, "interval": [0.8, 0.9], "behind": None}
    groups = {"forgotten": spread, "kept": spread, "fluent": None}
    entries: list[dict[str, Any]] = [
        {**usual, **first, "groups": groups},
        {**usual, "name": "npo", "score": spread, "groups": groups, "interval": [0.3, 0.7], "collapsed": "1 of 3 seeds: x",
         "behind": {"value": -0.375, "low": -0.5, "high": -0.125, "better": 0.004}},
        {**usual, "name": "failed", "score": None, "groups": {}, "interval": None, "behind": None},
    ]  # fmt: skip
    lines = RESULTS.compared_lines({"entries": entries})
    assert read_csv(written(tmp_path, lines)) == lines
    _, _, ours, npo = table("compared compared; rows: ours | npo", lines)
    assert ours == ["ours", "0.875 [0.800, 0.900]", "0.500", "0.500", "–", "–", "–", ""]
    assert npo == ["npo", "0.500 [0.300, 0.700]", "0.500", "0.500", "–", "-0.375 [-0.500, -0.125]", "0%", "1 of 3 seeds: x"]


ROUNDS = {
    "seed": 3,
    "columns": ["ann", "bob", "the others"],
    "rouge": {
        "original": [0.9, 0.8, 1.0],
        "after round 1": [0.2, 0.75, 1.0],
        "after round 2": [0.25, 0.125, 0.5],
        "oracle": [0.1, 0.2, 1.0],
    },
}


def test_rounds_are_a_table_of_owners_over_rounds(tmp_path: Path) -> None:
    lines = RESULTS.round_lines(ROUNDS)
    assert read_csv(written(tmp_path, lines)) == lines and {line["seed"] for line in lines} == {3}
    rows = table(
        "grid x; head: stage; rows: original | after round 2 = last; columns: rouge bob = Bob | rouge the others = rest",
        lines,
    )
    assert rows == [["stage", "Bob", "rest"], ["---", "---", "---"], ["original", "0.800", "1.000"], ["last", "0.125", "0.500"]]


def test_runs_of_several_corpora_keep_their_own_oracles(tmp_path: Path) -> None:
    words = [f"{share}={finished(tmp_path / share, oracle=float(share), attribution=0.25)}" for share in ("0", "0.5")]
    lines = RESULTS.overlap_lines(words)
    assert read_csv(written(tmp_path, lines)) == lines
    rows = table("grid overlap; rows: 0 | 0.5; columns: oracle attribution = oracle | unlearned attribution = ours", lines)
    assert rows[2:] == [["0", "0.020", "0.250"], ["0.5", "0.520", "0.250"]]
    with pytest.raises(ValueError, match="no oracle truth"):
        table("grid overlap; rows: 0; columns: oracle truth", lines)


def test_curves_are_drawn_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="drawings of the documentation need the `docs` extra")
    spec = importlib.util.spec_from_file_location("curves", DOCS / "curves.py")
    assert spec is not None and spec.loader is not None
    curves = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(curves)
    words = [f"{share}={finished(tmp_path / share, tow=0.9)}" for share in ("0", "0.5")]
    points = [{"parameters": size, "rows": size, **dict.fromkeys(curves.WORK, size / 7)} for size in (10, 100)]
    grown = {f"rows {scorer}": {"points": [*points, {"rows": 1000, "failed": "why"}]} for scorer in ("classifier", "gradient")}
    drawn = (
        (curves.rounds, RESULTS.round_lines(ROUNDS)), (curves.overlap, RESULTS.overlap_lines(words)), (curves.growth, grown),
    )  # fmt: skip
    for draw, lines in drawn:
        for number in range(2):
            draw(lines, tmp_path / f"{draw.__name__}-{number}.svg")
        first, second = ((tmp_path / f"{draw.__name__}-{number}.svg").read_text() for number in range(2))
        assert first == second and "<svg" in first
    assert "ann" in (tmp_path / "rounds-0.svg").read_text()


def test_a_mark_without_its_end_is_refused() -> None:
    with pytest.raises(ValueError, match="end of table"):
        RESULTS.page("<!-- table: runs default; rows: classifier -->\n| a |\n")
