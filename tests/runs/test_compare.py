"""A comparison from matrix to page: runs found, killed, gone on with, failed; tuning on other seeds."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from tests.runs.test_pipeline import KILLER
from tests.runs.tiny import TINY

from deattrib.attribution.plugins import PluginRegistry
from deattrib.compare.table import read_csv
from deattrib.errors import ConfigError, PluginError, RunError
from deattrib.evaluation.row_file import read_row_figures
from deattrib.runs.compare import Comparison, claimed, compare, models_there, read_cells, write_comparison
from deattrib.runs.config import build_config
from deattrib.runs.events import read_events
from deattrib.runs.matrix import Matrix
from deattrib.runs.tuning import Tuned, _forgotten, _with_own, read_tuned, refuse_overlap, tune


@pytest.fixture(scope="module")
def cache(tiny_cache: Path) -> Path:
    return tiny_cache


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Comparison:
    """dareu, a baseline, a variant that is dareu itself and one that cannot be run."""
    variants = {"the same": [], "too many": ["corpus.forget=40"]}
    matrix = Matrix(TINY, {"classifier": TINY["reward"]}, {"ga": "ga"}, (0,), variants, {})
    return compare(matrix, output=tmp_path_factory.mktemp("compare"), cache=cache, jobs=2, samples=50)


def test_runs_are_ordinary_and_a_failed_one_is_a_row(finished: Comparison) -> None:
    entries = {entry["name"]: entry for entry in finished.content["entries"]}
    assert set(entries) == {"dareu · classifier", "ga", "dareu · classifier · the same", "dareu · classifier · too many"}
    assert "40" in entries["dareu · classifier · too many"]["runs"][0]["error"]
    assert "Traceback" not in entries["dareu · classifier · too many"]["runs"][0]["error"]
    assert len([path for path in (finished.folder / "runs").iterdir() if (path / "metrics.json").is_file()]) == 2
    for name in ("dareu · classifier", "ga"):
        run = entries[name]["runs"][0]
        assert (finished.folder / run["page"]).is_file() and 0.01 <= run["score"] <= 1 and entries[name]["facts"]
    assert entries["dareu · classifier · the same"]["score"] == entries["dareu · classifier"]["score"]
    assert entries["ga"]["interval"][0] < entries["ga"]["interval"][1]
    lines = read_csv(finished.folder / "results.csv")
    assert [line["error"] for line in lines if line["metric"] == "error"] and (finished.folder / "compare.html").is_file()
    assert json.loads((finished.folder / "compare.json").read_text())["leader"] == finished.content["leader"]


def test_figures_of_single_rows_are_those_of_the_table(finished: Comparison) -> None:
    """Their means are the very figures of metrics.json."""
    for entry in finished.content["entries"]:
        if entry["score"] is None:
            continue
        folder = finished.folder / Path(entry["runs"][0]["page"]).parent
        rows = json.loads((folder / "metrics.json").read_text())["rows"]
        figures = read_row_figures(folder / "rows.safetensors")
        for model, row in rows.items():
            for key, (part, column) in {
                "forget_rouge": ("forget", "rouge"), "fact_recall": ("forget", "fact"),
                "attribution": ("forget", "attribution"),
                "retain_rouge": ("retain", "rouge"), "retain_paraphrase_rouge": ("retain_phrasings", "rouge"),
                "world_rouge": ("world", "rouge"),
            }.items():  # fmt: skip
                values = figures.of(model, part, column)
                assert values is not None and np.nanmean(values) == pytest.approx(row[key], abs=1e-5), (model, key)
            loss, tokens = (figures.columns[f"{model}/forget/{name}"] for name in ("loss", "tokens"))
            pooled = np.exp(np.average(loss.astype(float), weights=tokens))
            assert pooled == pytest.approx(row["oracle_perplexity"], rel=1e-4)


def test_what_is_finished_is_used_again_and_nothing_is_touched(finished: Comparison, cache: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished.folder / "runs").rglob("*") if path.is_file()}
    said: list[str] = []
    matrix = Matrix(TINY, {"classifier": TINY["reward"]}, {"ga": "ga"}, (0,), {}, {})
    again = compare(matrix, output=finished.folder, cache=cache, say=said.append, samples=50)
    assert [line.split()[0] for line in said] == ["found", "found"]
    assert {path: path.stat().st_mtime_ns for path in (finished.folder / "runs").rglob("*") if path.is_file()} == before
    assert len(again.content["entries"]) == 2


def test_whether_models_are_there_is_known_without_making_any(cache: Path, finished: Comparison, tmp_path: Path) -> None:
    cells = Matrix(TINY, {}, {"ga": "ga"}, (0, 1), {"wrong": ["corpus.forget=40"]}, {}).cells()
    assert models_there(cells, cache, {}) == {cells[0].models}  # seed 1 was never made, nor what cannot be
    assert models_there(cells, tmp_path, {}) == set() and not list(tmp_path.rglob("*.safetensors"))


def test_one_command_at_a_time(finished: Comparison, cache: Path) -> None:
    matrix = Matrix(TINY, {}, {"ga": "ga"}, (0,), {}, {})
    before = (finished.folder / "cells.json").read_text()
    with claimed(finished.folder, what="comparison"):
        with pytest.raises(RunError, match=r"The comparison folder .* is in use by process \d+"):
            compare(matrix, output=finished.folder, cache=cache)
        with pytest.raises(RunError, match="The ga tuning folder"), claimed(finished.folder, what="ga tuning", name=".ga.lock"):
            tune(TINY, "ga", budget=1, seeds=[1], reported=[0], output=finished.folder, cache=cache)
    assert (finished.folder / "cells.json").read_text() == before


def test_a_run_that_was_cut_off_is_gone_on_with(finished: Comparison, cache: Path, tmp_path: Path) -> None:
    """As a kill after the last checkpoint leaves it: checkpoints, no metrics, state "running". The same numbers come out."""
    matrix = Matrix(TINY, {}, {"ga": "ga"}, (0,), {}, {})
    (source,) = (finished.folder / "runs").glob("ga-*")
    shutil.copytree(source, tmp_path / "runs" / "another name")
    folder = tmp_path / "runs" / "another name"
    (folder / "metrics.json").unlink()
    (folder / "state.json").write_text(json.dumps({"schema": 1, "state": "running", "reason": None}))
    said: list[str] = []
    compare(matrix, output=tmp_path, cache=cache, say=said.append, samples=20)
    assert [line.split()[0] for line in said] == ["begun", "finished"]
    assert "continuing after step 6" in (tmp_path / "logs" / "another name.txt").read_text()
    again, before = (json.loads((place / "metrics.json").read_text())["rows"] for place in (folder, source))
    assert again == before


@pytest.mark.slow
def test_a_killed_run_is_gone_on_with(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "killer.py").write_text(KILLER)
    scorer = {"name": f"{tmp_path / 'killer.py'}:Killer", "epochs": 30}
    matrix = Matrix({**TINY, "reward": scorer}, {"killer": scorer}, {}, (0,), {}, {})
    monkeypatch.setenv("KILL_AT_CALL", "7")  # step 3, after the first checkpoint
    monkeypatch.setenv("KILL_WITH", str(int(signal.SIGKILL)))
    first = compare(matrix, output=tmp_path / "out", cache=cache, samples=20)
    assert "SIGKILL" in first.content["entries"][0]["runs"][0]["error"]
    monkeypatch.delenv("KILL_AT_CALL")
    second = compare(matrix, output=tmp_path / "out", cache=cache, samples=20)
    assert second.content["entries"][0]["score"] is not None
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    assert "continuing after step" in (tmp_path / "out" / "logs" / f"{folder.name}.txt").read_text()
    steps = [event["step"] for event in read_events(folder / "events.jsonl") if event["kind"] == "step"]
    assert steps == list(range(1, 7))


def test_a_result_of_other_code_or_another_corpus_is_not_used_again(finished: Comparison, cache: Path, tmp_path: Path) -> None:
    """As a scorer's file that was edited leaves it, or a corpus file: the same settings, and not the same run."""
    (source,) = (finished.folder / "runs").glob("ga-*")
    matrix = Matrix(TINY, {}, {"ga": "ga"}, (0,), {}, {})
    for changes in ({"classes": {"classifier": "deattrib 0.0.9", "method": "deattrib 0.0.9"}}, {"corpus": "another"}):
        output = tmp_path / next(iter(changes))
        folder = output / "runs" / source.name
        shutil.copytree(source, folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["fingerprints"] |= changes
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(RunError, match=r"(?s)with another corpus or code:.*Take another --output"):
            compare(matrix, output=output, cache=cache, samples=20)


def test_wrong_names_are_said_before_anything_runs(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(PluginError, match="Did you mean"):
        compare(Matrix(TINY, {}, {"nop": "nop"}, (0,), {}, {}), output=tmp_path / "out", cache=cache)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_runs_is_read_as_it_is(finished: Comparison, tmp_path: Path) -> None:
    runs = read_cells(finished.folder)
    assert len(runs) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="no finished runs"):
        read_cells(tmp_path / "empty")
    again = write_comparison("again", runs, tmp_path / "page", samples=20)
    assert (again.folder / "compare.html").is_file()
    page = next(run["page"] for entry in again.content["entries"] for run in entry["runs"])
    assert (again.folder / page).is_file()  # the link still leads to the run


def test_an_error_of_before_does_not_hide_a_result_that_came_since(finished: Comparison, tmp_path: Path) -> None:
    """As when the run was in use by another command, which has finished it."""
    (source,) = (finished.folder / "runs").glob("ga-*")
    shutil.copytree(source, tmp_path / "runs" / "ga")
    cell = {"method": "ga", "reward": "classifier", "variant": "", "seed": 0, "folder": "runs/ga", "error": "in use"}
    (tmp_path / "cells.json").write_text(json.dumps({"schema": 1, "name": "x", "cells": [cell]}))
    assert [run.error for run in read_cells(tmp_path)] == [""]
    state = json.loads((source / "state.json").read_text())
    (tmp_path / "runs" / "ga" / "state.json").write_text(json.dumps({**state, "state": "failed"}))
    assert [run.error for run in read_cells(tmp_path)] == ["in use"]


def test_tuning_takes_the_best_trial_and_writes_it(tmp_path: Path, cache: Path) -> None:
    said, there = list[str](), list[int]()

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("begun"):
            file = tmp_path / "npo.json"
            there.append(len(json.loads(file.read_text())["trials"]) if file.exists() else 0)

    training = {"steps": 20, "batch_size": 8, "learning_rate": 0.005}
    tiny = {**TINY, "model": {**TINY["model"], "base_training": training, "training": training}}
    tiny |= {"reward": "none", "referee": {"scorer": {"name": "constant"}}}  # nothing to fit: such models know too little
    arguments = {"budget": 2, "seeds": (100,), "reported": (0, 1), "output": tmp_path, "cache": cache, "say": say}
    best = tune({**tiny, "method": {"name": "npo", "retain": "kl"}}, "npo", **arguments)  # type: ignore[arg-type]
    tried = json.loads((tmp_path / "npo.json").read_text())["trials"]
    assert [trial["settings"] == {} for trial in tried] == [True, False] and there == [0, 1]
    standing = [trial for trial in tried if not trial["collapsed"][0]] or tried
    assert best.score == max(trial["score"] for trial in standing)
    found = read_tuned(tmp_path)["npo"]
    assert found.settings == best.settings and found.settings["retain"] == "kl" and found.runs == 2 and found.seeds == (100,)
    assert json.loads((next((tmp_path / "runs").iterdir()) / "metrics.json").read_text())["rows"]["oracle_second"] is None
    said.clear()
    assert tune(tiny, {"name": "npo", "retain": "kl"}, **arguments) == best  # type: ignore[arg-type]
    assert [line.split()[0] for line in said] == ["found", "found"]


def test_what_the_config_sets_of_the_method_stays_while_it_is_tuned(tmp_path: Path) -> None:
    registry = PluginRegistry()
    assert _with_own("npo", {"name": "npo", "beta": 0.5}, registry) == {"name": "npo", "beta": 0.5}
    both = {"name": "npo", "beta": 0.5, "retain": "kl"}
    assert _with_own({"name": "npo", "retain": "kl"}, {"name": "npo", "beta": 0.5}, registry) == both
    assert _with_own("npo", "dareu", registry) == _with_own("npo", "npo", registry) == "npo"
    for other in ("a", "b"):  # two files, one name
        (tmp_path / f"{other}.py").write_text(
            "from deattrib import Method\n\n\nclass npo(Method):\n    name = 'npo'\n\n    def forget_loss(self, rows): ...\n"
        )
    with pytest.raises(ConfigError, match="own method is 'npo', which tuning 'npo' would not run"):
        _with_own(f"{tmp_path / 'a.py'}:npo", f"{tmp_path / 'b.py'}:npo", registry)


def test_seeds_and_rows_that_are_reported_are_never_tuned_on(tmp_path: Path, cache: Path) -> None:
    arguments = {"output": tmp_path, "cache": cache, "reported": (0, 1)}
    with pytest.raises(ConfigError, match=r"Seeds \[1\]"):
        tune(TINY, "npo", budget=4, seeds=(1, 100), **arguments)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="less than one trial"):
        tune(TINY, "npo", budget=1, seeds=(100, 101), **arguments)  # type: ignore[arg-type]
    alone = {**TINY, "model": {"path": "a-model"}}
    with pytest.raises(ConfigError, match=r"scored by their distance to the oracle.* give model\.oracle, or model\.base"):
        tune(alone, "npo", budget=4, seeds=(100,), **arguments)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    configs = [build_config(data=TINY, seed=seed) for seed in (0, 1)]
    with pytest.raises(ConfigError, match=r"tuned on seeds \[1\]"):
        refuse_overlap({"npo": Tuned("npo", {}, 0.5, (1, 7), 4, ("x",))}, configs)
    fixed = [build_config(data={**TINY, "corpus": {**TINY["corpus"], "seed": 5}}, seed=0)]
    from deattrib.corpus.settings import load_corpus

    more = {**TINY["corpus"], "seed": 5, "forget": TINY["corpus"]["forget"] + 1}
    same = _forgotten(load_corpus(build_config(data={**TINY, "corpus": more}).corpus, 100))  # one owner more was forgotten
    assert len(same) == TINY["corpus"]["forget"] + 1
    with pytest.raises(ConfigError, match="of the owners that are to be reported"):
        refuse_overlap({"npo": Tuned("npo", {}, 0.5, (100,), 4, tuple(same))}, [*fixed, *configs])
    refuse_overlap({"npo": Tuned("npo", {}, 0.5, (100,), 4, tuple(same))}, configs)
    with pytest.raises(ConfigError, match="deattrib tune"):
        read_tuned(tmp_path)


CELL = {"method": "ga", "reward": "none", "variant": "", "seed": 0, "folder": "runs/a", "error": "why"}


@pytest.mark.parametrize(
    "cell",
    [{"folder": "../elsewhere"}, {"folder": "/elsewhere"}, {"folder": 5}, {"seed": [1]}, {"reward": "\ud800"}, {"error": None}],
)
def test_a_list_of_runs_that_leads_elsewhere_or_is_none_is_refused(tmp_path: Path, cell: dict[str, object]) -> None:
    (tmp_path / "cells.json").write_text(json.dumps({"cells": [CELL]}))
    assert read_cells(tmp_path)[0].error == "why"
    (tmp_path / "cells.json").write_text(json.dumps({"cells": [{**CELL, **cell}]}))
    with pytest.raises(RunError, match="not what `deattrib compare` writes"):
        read_cells(tmp_path)
    (tmp_path / "cells.json").write_text("[" * 100_000)
    with pytest.raises(RunError, match="not what `deattrib compare` writes"):
        read_cells(tmp_path)
