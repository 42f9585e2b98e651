"""Attacks at the end of a run and on a finished one: the same figures, and metrics.json as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.runs.tiny import TINY
from typer.testing import CliRunner

from deattrib.cli.main import app
from deattrib.errors import PluginError, RunError
from deattrib.runs.attack import attack
from deattrib.runs.config import build_config
from deattrib.runs.pipeline import run

ATTACKS: list[Any] = [
    "int4",
    {"name": "sampling", "samples": 3, "rows": 4},
    {"name": "relearning", "rows": 2, "steps": [1], "at": 1},
]
MODELS = {"original", "oracle", "oracle_second", "unlearned"}


@pytest.fixture(scope="module")
def cache(tiny_cache: Path) -> Path:
    return tiny_cache


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    run(build_config(data={**TINY, "attacks": ATTACKS}), output=folder, cache=cache)
    return folder


def without_seconds(rows: dict[str, Any]) -> dict[str, Any]:
    return {
        model: {name: {key: value for key, value in entry.items() if key != "seconds"} for name, entry in entries.items()}
        for model, entries in rows.items()
    }


def test_a_run_attacks_every_model_at_its_end(finished: Path, cache: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert "attacks" in metrics["seconds"] and set(metrics["rows"]) == MODELS
    for row in metrics["rows"].values():
        assert set(row["attacks"]) == {"int4", "sampling", "relearning"}
        assert all(0 <= entry["figure"] <= 1 and entry["error"] is None and entry["curve"] for entry in row["attacks"].values())
    page = (finished / "report.html").read_text()
    assert '<h2 id="attacks">Attacks</h2>' in page and "arXiv 2410.16454" in page
    assert len(list((cache / "attacks").iterdir())) == 9  # three attacks on three frozen models


def test_a_finished_run_gives_the_same_figures_and_keeps_its_metrics(finished: Path, tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    before = (folder / "metrics.json").read_bytes()
    content = attack(folder, ATTACKS, cache=cache)
    assert (folder / "metrics.json").read_bytes() == before
    rows = {name: row["attacks"] for name, row in json.loads(before)["rows"].items()}
    assert without_seconds(content["rows"]) == without_seconds(rows)
    assert json.loads((folder / "attacks.json").read_text())["rows"] == content["rows"]
    later = attack(folder, ["paraphrase"], cache=cache)
    assert set(later["rows"]["unlearned"]) == {"int4", "sampling", "relearning", "paraphrase"}
    assert (folder / "metrics.json").read_bytes() == before
    assert "phrasings never trained on" in (folder / "report.html").read_text()


def test_the_command_prints_a_table_or_json(finished: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEATTRIB_CACHE", str(cache))
    done = CliRunner().invoke(app, ["attack", str(finished), "--attacks", "int4"])
    assert done.exit_code == 0, done.output
    line = next(line for line in done.stdout.splitlines() if line.startswith("int4"))
    metrics = json.loads((finished / "metrics.json").read_text())
    shown = [float(cell) for cell in line.split()[1:]]
    wanted = [
        metrics["rows"][name]["attacks"]["int4"]["figure"] for name in ("original", "unlearned", "oracle", "oracle_second")
    ]
    assert shown == pytest.approx(wanted, abs=5e-4)
    done = CliRunner().invoke(app, ["attack", str(finished), "--attacks", "int4:bits=[4,8]", "--json"])
    assert json.loads(done.stdout)["rows"]["oracle"]["int4"]["settings"]["bits"] == [4, 8]


def test_what_cannot_be_attacked_is_said(finished: Path, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(RunError, match="not a run folder"):
        attack(tmp_path / "nothing", cache=cache)
    with pytest.raises(PluginError, match="Did you mean 'int4'"):
        attack(finished, ["int"], cache=cache)
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    kept = (folder / "attacks.json").read_text() if (folder / "attacks.json").is_file() else None
    for text in ("{", '{"rows": []}', '{"rows": {"oracle": {"int4": {"figure": "much"}}}}'):
        (folder / "attacks.json").write_text(text)
        with pytest.raises(RunError, match=r"attacks.json is not what `deattrib attack` writes"):
            attack(folder, ["int4"], cache=cache)
        assert (folder / "attacks.json").read_text() == text
    (folder / "attacks.json").unlink() if kept is None else (folder / "attacks.json").write_text(kept)
    (folder / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(RunError, match=r"adapter cannot be loaded"):
        attack(folder, ["int4"], cache=cache)
    (folder / "state.json").write_text('{"schema": 1, "state": "running", "reason": null}')
    with pytest.raises(RunError, match="only a finished run"):
        attack(folder, ["int4"], cache=cache)


def test_a_run_whose_corpus_is_another_now_is_not_attacked(finished: Path, tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["fingerprints"]["corpus"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="made on another corpus"):
        attack(folder, ["int4"], cache=cache)
    assert (folder / "attacks.json").is_file() == (finished / "attacks.json").is_file()


def test_a_misspelt_attack_leaves_no_run_behind(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(PluginError, match="Did you mean 'sampling'"):
        run(build_config(data={**TINY, "attacks": ["samplin"]}), output=tmp_path / "run", cache=cache)
    assert not (tmp_path / "run").exists()
