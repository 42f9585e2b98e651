"""`deattrib compare` and `deattrib tune` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tests.command_line import deattrib
from tests.report.conftest import ROWS
from tests.runs.tiny import TINY

from deattrib.cli.audit import default_output as audited_in
from deattrib.cli.compare import default_output as compared_in


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two finished runs in a folder, as `deattrib run` leaves them (without adapters)."""
    for method, seed in (("dareu", 0), ("npo", 0)):
        folder = tmp_path / "runs" / f"{method}-seed{seed}"
        folder.mkdir(parents=True)
        metrics = {"schema": 1, "seed": seed, "method": method, "reward": "classifier", "rows": ROWS, "seconds": {"unlearn": 1}}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "manifest.json").write_text(json.dumps({"schema": 1, "versions": {"torch": "2"}}))
        (folder / "config.yaml").write_text("name: demo\n")
    return tmp_path


def test_results_of_a_folder_become_table_page_and_markdown(runs: Path) -> None:
    done = deattrib("compare", "--results", str(runs))
    assert done.returncode == 0, done.stderr
    assert "dareu · classifier" in done.stdout and "npo" in done.stdout and "compare.html" in done.stdout
    assert (runs / "compare.html").is_file() and (runs / "results.csv").is_file()
    table = deattrib("compare", "--results", str(runs), "--markdown").stdout
    assert table.startswith("| | runs | score |") and f"| {ROWS['unlearned']['forget_rouge']:.3f} |" in table
    content = json.loads(deattrib("compare", "--results", str(runs), "--output", str(runs / "x"), "--json").stdout)
    assert {entry["name"] for entry in content["entries"]} == {"dareu · classifier", "npo"}
    assert (runs / "x" / "compare.html").is_file()


def test_why_there_is_no_score_is_said_in_the_terminal(runs: Path) -> None:
    for path in runs.rglob("metrics.json"):
        metrics = json.loads(path.read_text())
        path.write_text(json.dumps({**metrics, "rows": {**ROWS, "oracle": None, "oracle_second": None}}))
    done = deattrib("compare", "--results", str(runs))
    assert done.returncode == 0, done.stderr
    assert "There is no score: it needs an original, an oracle and an unlearned model" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "c.yaml", "--methods", "nop", "--output", "o"], "Did you mean"),
        (["compare", "c.yaml", "--methods", "npo:a.b=1"], "--methods 'npo:a.b=1': 'a.b=1' is no setting of a method"),
        (["tune", "npo:a.b=1", "c.yaml"], "METHOD 'npo:a.b=1': 'a.b=1' is no setting of a method"),
        (["compare", "c.yaml", "--seeds", "0,x"], "--seeds '0,x'"),
        (["compare", "c.yaml", "--seeds", "1,1"], "different whole numbers"),
        (["compare", "c.yaml", "--seeds", "1" * 5000], "different whole numbers"),
        (["compare", "c.yaml", "--set", "reward=null"], "reward: got None"),
        (["compare", "c.yaml", "--set", "method={}"], "A method is a name"),
        (["compare", "c.yaml", "--markdown"], "--results"),
        (["compare", "--results", "nowhere"], "no finished runs"),
        (["compare", "--results", ".", "--rewards", "none"], "--results runs nothing"),
        (["compare", "c.yaml", "--variants", "v.yaml"], "variant 'bad'"),
        (["compare", "c.yaml", "--tuned", "nowhere"], "deattrib tune"),
        (["compare", "missing.yaml"], "missing.yaml"),
        (["tune", "npo", "c.yaml", "--seeds", "0,100"], "Seeds [0] are to be reported"),
        (["tune", "nop", "c.yaml"], "Did you mean"),
        (["compare", "c.yaml", "--executor", "slrum", "--output", "o"], "Did you mean 'slurm'"),
        (
            ["tune", "npo", "c.yaml", "--budget", "2", "--executor-set", "mem_gb=4", "--output", "o"],
            "--executor local or slurm",
        ),
        (["tune", "npo", "c.yaml", "--budget", "1"], "less than one trial"),
        (["tune", "npo", "c.yaml", "--set", "method=ga"], "The config's own method is 'ga'"),
    ],
)
def test_a_wrong_call_is_one_clear_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(TINY))
    (tmp_path / "v.yaml").write_text("bad: {a: 1}\n")
    done = deattrib(*arguments, cwd=tmp_path, DEATTRIB_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()


def test_one_run_from_the_command_line(tmp_path: Path, tiny_cache: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(TINY))
    command = ["compare", "c.yaml", "--methods", "retain-ft", "--seeds", "0", "--set", "ppo.steps=2", "--output", "o"]
    done = deattrib(*command, cwd=tmp_path, DEATTRIB_CACHE=str(tiny_cache))
    assert done.returncode == 0, done.stderr
    assert "retain-ft" in done.stdout and "finished" in done.stderr
    assert (tmp_path / "o" / "compare.html").is_file()


@pytest.mark.parametrize("name", ["/tmp/evil", "../../x", "a\0b", "..", "", 5, None])
def test_the_name_of_a_config_is_part_of_a_file_name_and_no_path(name: object) -> None:
    for folder, parent in ((compared_in({"name": name}), "comparisons"), (audited_in(str(name), 0), "audits")):
        assert folder.parent == Path(parent) and folder.name not in ("", ".", "..") and "\0" not in folder.name
    assert compared_in({"name": "tiny"}) == Path("comparisons/tiny") and compared_in({}) == Path("comparisons/run")
    assert audited_in("tiny", 3) == Path("audits/tiny-seed3")
