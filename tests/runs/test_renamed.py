"""A setting that was renamed works under its old name and warns; both names at once are refused."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version
from pydantic import BaseModel

from deattrib import ConfigError, RunConfig, build_config
from deattrib.errors import deprecated
from deattrib.runs.renamed import RENAMED
from deattrib.runs.validation import validate


@pytest.fixture(autouse=True)
def pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RENAMED, "ppo.pace", ("ppo.learning_rate", "0.3"))


def test_the_old_name_works_and_warns_with_the_new_one_and_the_version() -> None:
    said = r"deattrib: the setting `ppo\.pace` goes in version 0\.3; use `ppo\.learning_rate`"
    with pytest.warns(DeprecationWarning, match=said) as caught:
        config = build_config(data={"ppo": {"pace": 0.5, "steps": 3}})
    assert [warning.filename for warning in caught] == [__file__]  # the line that asked, not one of ours
    assert config == build_config(data={"ppo": {"learning_rate": 0.5, "steps": 3}})


def test_the_old_name_is_over_a_preset_and_works_on_the_command_line_and_in_old_run_folders(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("preset: paper\nppo:\n  pace: 0.5\n", encoding="utf-8")
    with pytest.warns(DeprecationWarning):
        assert build_config(path=file).ppo.learning_rate == 0.5
    with pytest.warns(DeprecationWarning):
        assert build_config(path=file, overrides=["ppo.pace=0.25"]).ppo.learning_rate == 0.25
    with pytest.warns(DeprecationWarning):
        assert validate(RunConfig, {"ppo": {"pace": 0.5}}, source="config.yaml").ppo.learning_rate == 0.5


def test_both_names_are_one_error() -> None:
    said = r"the config: `ppo\.pace` is the old name of `ppo\.learning_rate`, and both are given: remove `ppo\.pace`"
    with pytest.raises(ConfigError, match=said):
        build_config(data={"ppo": {"pace": 0.5}}, overrides=["ppo.learning_rate=0.5"])


def test_a_section_may_move_and_what_was_given_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RENAMED, "saving", ("checkpoints", "0.3"))
    monkeypatch.setitem(RENAMED, "rank", ("policy.rank", "0.3"))
    given = {"saving": {"every": 5}, "rank": 4}
    with pytest.warns(DeprecationWarning) as caught:
        config = build_config(data=given)
    assert (config.checkpoints.every, config.policy.rank, len(caught)) == (5, 4, 2)
    assert given == {"saving": {"every": 5}, "rank": 4}


@pytest.mark.parametrize("data", [{"ppo": 3}, {"ppo": None}, {"ppo": {"steps": 3}}, {}])
def test_nothing_is_said_where_no_old_name_is(data: dict[str, object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            build_config(data=data)
        except ConfigError as error:
            assert "ppo" in str(error)


def test_other_settings_are_not_a_runs() -> None:
    class Other(BaseModel, extra="allow"):
        pass

    assert validate(Other, {"ppo": {"pace": 1}}, source="x").model_extra == {"ppo": {"pace": 1}}


def test_our_own_tests_fail_on_our_own_deprecations() -> None:
    with pytest.raises(DeprecationWarning, match="deattrib: a goes in version 9; use b"):
        deprecated("a", "b", "9")


def test_a_command_shows_the_warning(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("{ppo: {pace: 0.5}, seed: x}", encoding="utf-8")
    code = (
        "import sys\nfrom deattrib.runs.renamed import RENAMED\nRENAMED['ppo.pace'] = ('ppo.learning_rate', '0.3')\n"
        "from deattrib.cli.main import main\nsys.argv = ['deattrib', 'run', 'old.yaml']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert "DeprecationWarning: deattrib: the setting `ppo.pace` goes in version 0.3" in done.stderr
    assert done.returncode == 1 and "seed" in done.stderr


def overdue(present: str) -> list[str]:
    """Entries of the table that the present version should not have any more."""
    return [old for old, (_, gone_in) in RENAMED.items() if Version(gone_in) <= Version(present)]


def test_what_is_to_go_has_gone() -> None:
    assert overdue("0.3.0") == ["ppo.pace"]
    RENAMED.pop("ppo.pace")  # the fixture puts back what was there
    assert overdue(version("deattrib")) == []
