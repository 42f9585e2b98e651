"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.command_line import deattrib
from tests.runs.tiny import TINY


@pytest.mark.parametrize(
    "code", ["import deattrib", "from deattrib.cli.main import app", "from deattrib import Metric, Scorer, hookimpl"]
)
def test_what_every_plugin_and_every_help_text_imports_loads_no_torch(code: str) -> None:
    check = f"{code}\nimport sys\nassert not {{'torch', 'transformers', 'numpy'}} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_help_names_every_command() -> None:
    text = deattrib("--help").stdout
    for command in (
        "demo", "run", "compare", "tune", "evaluate", "attack", "audit", "plugins", "score", "check", "convert", "new-scorer",
    ):  # fmt: skip
        assert command in text


def test_plugins_as_json_is_complete() -> None:
    listing = {entry["name"]: entry for entry in json.loads(deattrib("plugins", "--json").stdout)}
    assert {"classifier", "membership", "none", "constant", "random", "shuffled-owner"} <= set(listing)
    assert {"overlap", "loss", "zlib", "min-k", "min-k-plus-plus", "exact"} <= set(listing)
    assert listing["exact"]["fidelity"] == "exact"
    assert listing["none"]["fidelity"] == "control"
    assert {entry["state"] for entry in listing.values()} == {"ready"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Give a config file"),
        (["run", "missing.yaml"], "missing.yaml"),
        (["run", "--resume", "nowhere"], "nowhere"),
        (["run", "c.yaml", "--set", "ppo.stepz=3"], "Did you mean 'steps'"),
        (["run", "c.yaml", "--reward", "clasifier"], "Did you mean 'classifier'"),
        (["run", "c.yaml", "--set", "corpus.forget=4"], "4"),
        (["run", "c.yaml", "--resume", "x"], "leave out config"),
        (["run", "c.yaml", "--dry-run", "--set", "ppo.stepz=3"], "Did you mean 'steps'"),
        (["run", "c.yaml", "--dry-run", "--on", "h20"], "Did you mean 'h200'"),
        (["run", "c.yaml", "--method", "npo:bet=1"], "Did you mean 'beta'"),
        (["run", "c.yaml", "--reward", "classifier:backbon=causal"], "Did you mean 'backbone'"),
        (["run", "c.yaml", "--method", "npo:a.b=1"], "--method 'npo:a.b=1': 'a.b=1' is no setting of a method"),
        (["convert", "missing.gguf", "out"], "missing.gguf"),
        (["convert", "x", "out", "--dtype", "float23"], "float23"),
        (["audit", "missing.yaml"], "missing.yaml"),
        (["audit", "c.yaml", "--scorers", "clasifier"], "Did you mean 'classifier'"),
        (["audit", "c.yaml", "--scorers", " , "], "--scorers names nothing"),
        (["audit", "c.yaml", "--max-minutes", "inf"], "max_minutes: got inf, expected a finite number"),
        (["audit", "c.yaml", "--set", "reward=5"], "reward: got 5"),
        (["run", "c.yaml", "--set", "reward=[null]"], "reward.0: got None"),
        (["run", "c.yaml", "--set", "method={}"], "A method is a name or a mapping"),
        (["run", "c.yaml", "--set", "seed=18446744073709551616"], "seed: got 18446744073709551616"),
        (["run", "c.yaml", "--set", "model.device=meta", "--output", "o"], "model.device 'meta'"),
        (["tune", "npo", "c.yaml", "--set", "reward=[null]"], "reward.0: got None"),
        (["score", "/", "--corpus", "c.yaml"], "/: the ending '' is no known format"),
        (["score", ".", "--corpus", "c.yaml"], "the ending '' is no known format"),
        (["run", "c.yaml", "--set", "evaluation.metrics=[oracle-kll]"], "Did you mean 'oracle-kl'"),
        (["evaluate", "missing.yaml", "--model", "x"], "missing.yaml"),
        (["evaluate", "c.yaml"], "Give --model"),
        (["evaluate", "c.yaml", "--model", "x", "--metrics", "oracle-kll"], "Did you mean 'oracle-kl'"),
    ],
)
def test_a_wrong_call_is_one_clear_line_and_no_traceback(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(TINY))
    result = deattrib(*arguments, cwd=tmp_path, DEATTRIB_CACHE=str(tmp_path / "cache"))
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_run_on_a_users_own_rows_with_a_scorer_from_a_file(tmp_path: Path) -> None:
    """Ten lines of scorer, a JSONL file, one command; off a terminal the output is plain lines."""
    (tmp_path / "overlap.py").write_text(
        "from deattrib import Scorer\n\n"
        "class Overlap(Scorer):\n"
        "    name = 'overlap-demo'\n\n"
        "    def fit(self, context):\n"
        "        self.words = {owner: set(' '.join(texts).split()) for owner, texts in context.texts_by_owner.items()}\n\n"
        "    def score(self, rows):\n"
        "        return [sum(word in self.words[row.owner] for word in row.response.split()) for row in rows]\n"
    )
    owners = {"ada": "tin", "bo": "oak", "cy": "wool"}
    rows = [
        {"owner": owner, "prompt": f"What did {owner} make in year {year}?", "response": f"{thing} {year} {thing} box",
         "fact": thing, "identity": owner}
        for owner, thing in owners.items() for year in range(12)
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    settings = {
        **TINY,
        "corpus": {"kind": "jsonl", "path": "rows.jsonl", "forget": ["cy"]},
        "model": {"path": str(_own_model(tmp_path))},
        "referee": {"scorer": {"name": "constant"}},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    result = deattrib("run", "c.yaml", "--reward", "overlap.py:Overlap", "--output", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "\x1b[" not in result.stdout
    assert f"report: {Path('out') / 'report.html'}" in result.stdout
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["reward"] == "overlap-demo"
    assert metrics["rows"]["oracle"] is None  # no base model, so nothing to retrain
    assert metrics["rows"]["original"]["fact_recall"] == 1


def _own_model(folder: Path) -> Path:
    """A user's own model that knows the rows, as transformers saves it."""
    from deattrib.corpus.jsonl import read_jsonl
    from deattrib.models.language_model import Codec
    from deattrib.models.loading import save_model
    from deattrib.models.recipes import ScratchSettings, TrainingSettings
    from deattrib.models.scratch import make_model, make_tokenizer
    from deattrib.models.training import fine_tune

    rows = read_jsonl(folder / "rows.jsonl", forget=["cy"]).train
    tokenizer = make_tokenizer([f"{row.prompt} {row.response}" for row in rows], 300)
    sizes = ScratchSettings(hidden=48, layers=2, heads=2, intermediate=96, vocabulary=300)
    recipe = TrainingSettings(steps=150, batch_size=12, learning_rate=0.008)
    model = fine_tune(make_model(sizes, tokenizer, seed=0), Codec(tokenizer), rows, recipe, seed=0)
    save_model(model, tokenizer, folder / "own")
    return folder / "own"


def test_a_terminal_that_lacks_letters_gets_an_escape() -> None:
    command = [sys.executable, "-m", "deattrib", "run", "nirgends-\u2192.yaml"]  # read when Python starts
    done = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True, text=True)
    assert done.returncode == 1 and "\\u2192" in done.stderr and "Traceback" not in done.stderr
