"""`deattrib check`: what it prints, what it says to programs, and when it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.command_line import deattrib
from typer.testing import CliRunner, Result

from deattrib.cli.check import line_of, named_and_set, read_params
from deattrib.cli.main import app
from deattrib.errors import ConfigError
from deattrib.testing import CHECKS, Outcome

SCORERS = """
from deattrib import Scorer


class Sound(Scorer):
    name = "sound"

    class Params(Scorer.Params):
        factor: float = 1.0

    def fit(self, context):
        self.words = {owner: set(" ".join(texts).split()) for owner, texts in context.texts_by_owner.items()}

    def score(self, rows):
        return [self.params.factor * sum(word in self.words[row.owner] for word in row.response.split()) for row in rows]


class Unfit(Sound):
    name = "unfit"

    def fit(self, context):
        raise RuntimeError("no such \\x1b[31mfile")
"""


@pytest.fixture
def scorers(tmp_path: Path) -> Path:
    path = tmp_path / "scorers.py"
    path.write_text(SCORERS)
    return path


def check(*arguments: str) -> Result:
    """The command in this process, which has the libraries loaded."""
    return CliRunner().invoke(app, ["check", *arguments])


def test_a_sound_scorer_passes_and_a_wrong_sign_is_found(scorers: Path) -> None:
    good = check(f"{scorers}:Sound", "--json")
    assert good.exit_code == 0, good.output
    report = json.loads(good.stdout)
    assert report["passed"] and report["scorer"] == "sound"
    assert [outcome["check"] for outcome in report["outcomes"]] == [check.name for check in CHECKS]
    assert set(report["cost"]) == {"fit", "score", "prefixes"} and report["cost"]["score"] > 0
    bad = check(f"{scorers}:Sound:factor=-1")
    assert bad.exit_code == 1
    failed = [line for line in bad.stdout.splitlines() if line.startswith("FAIL")]
    assert failed == ["FAIL planted_owner_first"]
    assert "Check the sign" in bad.stdout and "1 failed" in bad.stdout and "it breaks the contract" in bad.stdout


def test_a_scorer_that_cannot_be_fitted_says_so_once(scorers: Path) -> None:
    done = check(f"{scorers}:Unfit")
    assert done.exit_code == 1
    assert done.stdout.count("RuntimeError: no such") == 1 and done.stdout.count("the same as above") > 5
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clasifier"], "Did you mean 'classifier'"),
        (["classifier", "--param", "epochz=3"], "epochs"),
        (["classifier:epochz=3"], "epochs"),
        (["classifier:a.b=3"], "no setting of a scorer"),
    ],
)
def test_a_wrong_call_is_one_clear_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = deattrib("check", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr


def test_params_are_values_and_may_be_nested() -> None:
    assert read_params(["epochs=3", "scorer={name: membership, swaps: 1}", "rate=1e-3", "output=log-odds"]) == {
        "epochs": 3, "scorer": {"name": "membership", "swaps": 1}, "rate": 1e-3, "output": "log-odds",
    }  # fmt: skip
    for wrong in ("=3", "name=membership"):
        with pytest.raises(ConfigError, match="--param"):
            read_params([wrong])


def test_settings_after_colons_are_merged_under_params() -> None:
    text = "./my.py:Mine:order=2:rates=[1,2]"
    assert named_and_set(text, []) == ("./my.py:Mine", {"order": 2, "rates": [1, 2]})
    assert named_and_set(text, ["order=3", "label=a"]) == ("./my.py:Mine", {"order": 3, "rates": [1, 2], "label": "a"})
    assert named_and_set("min-k", ["share=0.1"]) == named_and_set("min-k:share=0.1", []) == ("min-k", {"share": 0.1})


def test_long_messages_are_wrapped() -> None:
    outcome = Outcome("any_row_order", "expected " * 30, "failed", "found " * 60, "mend " * 30, 0.0)
    lines = line_of(outcome, set()).splitlines()
    assert len(lines) > 6 and max(len(line) for line in lines) <= 110
