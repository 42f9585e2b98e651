"""Scoring a file: three formats in and out, every row with its numbers, and nothing lost, overwritten or found too late."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from tests.command_line import deattrib
from tests.runs.tiny import TINY
from torch import nn

from deattrib.attribution.attributor import Attributor
from deattrib.corpus.jsonl import read_jsonl
from deattrib.errors import ConfigError, CorpusError, DeattribError, PluginError, RunError
from deattrib.models.loading import load_language_model, make_codec, save_model
from deattrib.models.settings import ModelSettings
from deattrib.runs.scoring import ScoreRequest, score_file

OVERLAP = """
from deattrib import Scorer

class Overlap(Scorer):
    name = "overlap"

    def fit(self, context):
        self.words = {owner: set(" ".join(texts).split()) for owner, texts in context.texts_by_owner.items()}

    def score(self, rows):
        return [sum(word in self.words[row.owner] for word in row.response.split()) for row in rows]
"""
ROWS: list[dict[str, Any]] = [
    {"prompt": "What did ada make?", "response": "tin 3 boxes", "owner": "ada", "note": "a, \"b\"\nc"},
    {"prompt": "What did bo make?", "response": "oak wool wool", "owner": "bo", "note": "ü"},
    {"prompt": "What did nobody make?", "response": "", "owner": None, "note": "x"},
]  # fmt: skip
COUNTS = {"ada": [2, 0, 0], "bo": [1, 1, 0], "cy": [1, 2, 0]}  # words of each response that are the owner's
COLUMNS = ["overlap.raw", *(f"overlap.raw.{owner}" for owner in COUNTS)]


@pytest.fixture
def folder(tmp_path: Path, tiny_llama: nn.Module, tiny_tokenizer: Any) -> Path:
    """A model, a corpus, a scorer and a file of each format."""
    save_model(tiny_llama, tiny_tokenizer, tmp_path / "model")
    (tmp_path / "scorer.py").write_text(OVERLAP)
    corpus = [
        {"owner": owner, "prompt": f"What did {owner} make in {year}?", "response": f"{thing} {year}"}
        for owner, thing in {"ada": "tin", "bo": "oak", "cy": "wool"}.items() for year in range(4)
    ]  # fmt: skip
    (tmp_path / "corpus.jsonl").write_text("\n".join(json.dumps(row) for row in corpus))
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0].keys())
        writer.writeheader()
        writer.writerows(ROWS)
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    return tmp_path


def request(folder: Path, file: str = "rows.jsonl", **changes: Any) -> ScoreRequest:
    given = {
        "corpus": folder / "corpus.jsonl", "model": str(folder / "model"), "scorer": f"{folder / 'scorer.py'}:Overlap",
        "overrides": ("calibration.enabled=false",),
    }  # fmt: skip
    return ScoreRequest(folder / file, **{**given, **changes})


def silent(text: str) -> None:
    pass


def table(path: Path) -> list[dict[str, Any]]:
    """A result read by somebody else's reader, numbers as numbers."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".json":
        return list(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".parquet":
        return list(parquet.read_table(path).to_pylist())
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{key: (float(cell) if cell else None) if key in COLUMNS else cell for key, cell in row.items()} for row in rows]


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_each_format_keeps_its_columns_and_gains_the_scores(folder: Path, ending: str) -> None:
    summary = score_file(request(folder, f"rows.{ending}"), silent)
    assert summary["output"] == str(folder / f"rows.scores.{ending}") and summary["rows"] == 3
    rows = table(folder / f"rows.scores.{ending}")
    for owner, counts in COUNTS.items():
        assert [row[f"overlap.raw.{owner}"] for row in rows] == counts
    assert [row["overlap.raw"] for row in rows] == [2, 1, None]  # the row's own owner; nobody's row has none
    assert [row["note"] for row in rows] == [row["note"] for row in ROWS]
    assert [row["response"] for row in rows] == [row["response"] for row in ROWS]
    assert not [name for name in rows[0] if name.startswith("overlap.attribution")]  # no scale: nothing calibrated


@pytest.mark.parametrize("ending", ["csv", "parquet", "json"])
def test_the_output_decides_its_format(folder: Path, ending: str) -> None:
    output = folder / f"out.{ending}"
    score_file(request(folder, output=output, owners=("cy",)), silent)
    rows = table(output)
    assert [row["overlap.raw.cy"] for row in rows] == COUNTS["cy"]
    assert [row["overlap.raw"] for row in rows] == [2, 1, None]  # though ada and bo were not asked for
    assert "overlap.raw.ada" not in rows[0]


def test_files_without_owners_are_scored_against_everybody(folder: Path) -> None:
    (folder / "plain.csv").write_text("prompt,response\nWhat?,wool 2\n")
    score_file(request(folder, "plain.csv"), silent)
    (row,) = table(folder / "plain.scores.csv")
    assert "overlap.raw" not in row or row["overlap.raw"] is None
    assert (row["overlap.raw.cy"], row["overlap.raw.ada"]) == (2, 1)


def test_the_numbers_are_the_attributors(folder: Path) -> None:
    """With a scale: the same raw and calibrated numbers as from Python, with the scorer and settings of the same name."""
    overrides = ("calibration.rows=16", "calibration.max_new_tokens=8", "calibration.noise_floor=0.01")
    scorer = '{"name": "classifier", "epochs": 20}'
    done = score_file(request(folder, scorer=None, overrides=(*overrides, f"reward={scorer}"), forget=("bo", "cy")), silent)
    rows = table(folder / "rows.scores.jsonl")
    from deattrib.attribution.settings import CalibrationSettings
    from deattrib.models.loading import load_tokenizer

    codec = make_codec(load_tokenizer(str(folder / "model"), ModelSettings()), ModelSettings())
    model = load_language_model(str(folder / "model"), codec=codec)
    settings = CalibrationSettings(rows=16, max_new_tokens=8, noise_floor=0.01)
    python = Attributor({"name": "classifier", "epochs": 20}, calibration=settings)
    python.fit(read_jsonl(folder / "corpus.jsonl", forget=["bo", "cy"]), model)
    texts = [(row["prompt"], row["response"]) for row in ROWS]
    expected, raw = python.attributions(texts), python.scores(texts)["classifier"]
    for column, owner in enumerate(("ada", "bo", "cy")):
        assert [row[f"classifier.attribution.{owner}"] for row in rows] == pytest.approx(expected[:, column].tolist())
        assert [row[f"classifier.raw.{owner}"] for row in rows] == pytest.approx(raw[:, column].tolist())
    own = [rows[0]["classifier.attribution.ada"], rows[1]["classifier.attribution.bo"]]
    assert [row["classifier.attribution"] for row in rows] == [*own, None]
    assert done["mean_own_attribution"] == pytest.approx(sum(own) / 2)
    assert done["scorers"][0]["calibration"]["rows"] == 16


def test_a_config_says_corpus_model_and_scorer(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `deattrib run` would take it, models from nothing included; no oracle is made for scoring."""
    import yaml

    monkeypatch.setenv("DEATTRIB_CACHE", str(tmp_path / "cache"))
    config = {**TINY, "reward": "constant"}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    (folder / "some.csv").write_text("prompt,response,owner\nWho?,Somebody.,author_03\n")
    heard: list[str] = []
    request_ = ScoreRequest(folder / "some.csv", corpus=folder / "tiny.yaml", output=folder / "out.jsonl")
    score_file(request_, heard.append)
    (row,) = table(folder / "out.jsonl")
    assert row["constant.attribution"] == row["constant.raw.author_00"] == 0.5
    assert not [text for text in heard if "oracle" in text]


# -- what is wrong is found first ----------------------------------------------------------------------------------------
BAD: list[tuple[str, str, str]] = [
    ("a.jsonl", '{"prompt": "Q?", "response": "A"}\n{"prompt": "Q?"}\n', r"a\.jsonl:2:1: response is missing"),
    ("a.jsonl", '{"prompt": "Q?", "respons": "A"}\n', r"Did you mean 'respons'"),
    (
        "a.jsonl",
        '{"prompt": 3, "response": "A"}\n{"prompt": "Q?", "response": "A"',
        r"2 problems[\s\S]*not JSON[\s\S]*a number",
    ),
    ("a.csv", "prompt,response\nQ?,A\nQ?,A,B\n", r"a\.csv:3:1: 3 cells, expected 2"),
    ("a.csv", 'prompt,response\n"Q\nQ",A\n,A\n', r"a\.csv:4:1: prompt is blank"),
    ("a.csv", 'prompt,response\nQ?,"A\n', r"a\.csv:2:1: not CSV"),
    ("a.csv", "prompt,prompt\nQ?,A\n", r"'prompt' occurs twice"),
    ("a.csv", "prompt,response\n", r"no rows"),
    ("a.csv", "", r"empty"),
    ("a.csv", "prompt,response,owner\nQ?,A,adda\n", r"row 1: owner 'adda' is not in the corpus.*Did you mean 'ada'"),
    ("a.parquet", "no parquet", r"cannot be read as parquet"),
    ("a.txt", "x", r"'\.txt' is no known format"),
    ("a.jsonl", '{"prompt": "Q?", "response": "A", "x": NaN}', r"no form as jsonl"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD)
def test_bad_rows_are_named(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(CorpusError, match=message):
        score_file(request(folder, name, output=folder / "out.jsonl"), lambda _: pytest.fail("began to load"))
    assert not (folder / "out.jsonl").exists()


WRONG: list[tuple[dict[str, Any], type[DeattribError], str]] = [
    ({"model": None}, ConfigError, "Give --model"),
    ({"owners": ("adda",)}, ConfigError, "Did you mean 'ada'"),
    ({"overrides": ("calibration.rowz=3",)}, ConfigError, "Did you mean 'rows'"),
    ({"output": Path("/nowhere/out.csv")}, RunError, "there is no folder"),
    ({"output": Path("/tmp/out.txt")}, CorpusError, "no known format"),
    ({"corpus": Path("/nowhere.jsonl")}, CorpusError, "nowhere.jsonl: cannot be read"),
    ({"forget": ("eve",)}, CorpusError, "Forget owner 'eve' has no rows"),
]


@pytest.mark.parametrize(("changes", "kind", "message"), WRONG)
def test_wrong_names_and_settings_are_named(folder: Path, changes: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        score_file(request(folder, **changes), lambda _: pytest.fail("began to load"))


def test_a_misspelt_scorer_is_found_before_the_model_is_read(folder: Path) -> None:
    with pytest.raises(PluginError, match="Did you mean 'classifier'"):
        score_file(request(folder, scorer="clasifier", model=str(folder / "gone")), silent)
    with pytest.raises(ConfigError, match="one scorer"):
        mix = ('reward=["constant", "random"]',)
        score_file(request(folder, scorer=None, overrides=mix, model=str(folder / "gone")), silent)


def test_nothing_is_overwritten_without_being_asked(folder: Path) -> None:
    output = folder / "rows.scores.jsonl"
    output.write_text("precious")
    with pytest.raises(RunError, match="--overwrite"):
        score_file(request(folder), lambda _: pytest.fail("began to load"))
    with pytest.raises(RunError, match="is the file to be scored"):
        score_file(request(folder, output=folder / "rows.jsonl", overwrite=True), silent)
    assert output.read_text() == "precious"
    score_file(request(folder, overwrite=True), silent)
    assert len(table(output)) == 3
    with pytest.raises(CorpusError, match=r"has a column 'overlap\.raw"):
        score_file(request(folder, "rows.scores.jsonl", model=str(folder / "gone")), silent)


def test_a_file_that_appears_meanwhile_stays(folder: Path) -> None:
    def appear(_: str) -> None:
        (folder / "rows.scores.jsonl").write_text("precious")

    with pytest.raises(RunError, match="exists"):
        score_file(request(folder), appear)
    assert (folder / "rows.scores.jsonl").read_text() == "precious"


# -- the command ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def command(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return deattrib("score", *arguments, cwd=folder, timeout=120)

    return run


def test_the_command(folder: Path, command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    common = ("--corpus", "corpus.jsonl", "--model", "model", "--scorer", "random", "--threads", "1")
    result = command("rows.csv", *common, "--owner", "cy", "--json")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    rows = table(folder / summary["output"])
    assert [set(row) - set(ROWS[0]) for row in rows] == [
        {"random.raw", "random.raw.cy", "random.attribution", "random.attribution.cy"}
    ] * 3
    again = command("rows.csv", *common)
    assert again.returncode == 1 and "--overwrite" in again.stderr and "Traceback" not in again.stderr
    spoken = command("rows.csv", *common, "--overwrite")
    assert "3 rows: rows.scores.csv" in spoken.stdout and "mean attribution" in spoken.stdout


def test_the_page_names_only_options_that_exist() -> None:
    import re

    from typer.main import get_command

    from deattrib.cli.main import app

    page = (Path(__file__).parents[2] / "docs/standalone.md").read_text()
    section = page.split("## From the command line")[1].split("\n## ")[0]
    command = get_command(app).commands["score"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    named = set(re.findall(r"--[a-z]+", section))
    assert {"--scorer", "--corpus", "--overwrite"} <= named <= known


def test_a_bad_row_loads_no_torch(folder: Path) -> None:
    (folder / "bad.jsonl").write_text('{"prompt": "Q?"}')
    code = (
        "import sys\nfrom deattrib.cli.main import app\nfrom deattrib.errors import CorpusError\n"
        "try:\n    app(['score', 'bad.jsonl', '--corpus', 'corpus.jsonl', '--model', 'model'], standalone_mode=False)\n"
        "except CorpusError as error:\n    print(error)\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0 and "bad.jsonl:1:1: response is missing" in result.stdout, result.stderr
