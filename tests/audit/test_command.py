"""`deattrib audit` in a process of its own: figures on one stream, stages on the other, nothing trained twice."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import yaml
from tests.command_line import deattrib
from tests.runs.tiny import TINY

QUICK = {**TINY["model"], "training": {"steps": 4, "batch_size": 8}, "base_training": {"steps": 4, "batch_size": 8}}


def audit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return deattrib("audit", "c.yaml", *arguments, "--threads", "1", cwd=folder, DEATTRIB_CACHE=str(folder / "cache"))


def test_an_audit_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**TINY, "model": QUICK}))
    common = ("--scorers", "overlap,min-k:share=0.5", "--owners", "2", "--seeds", "1", "--rows", "2")
    result = audit(tmp_path, *common, "--json")
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout)
    assert [entry["name"] for entry in content["scorers"]] == ["retraining", "overlap", "min-k:share=0.5"]
    assert content["exact"]["ceiling_rows"] is None  # one seed says nothing of its own noise
    assert "3 models, 2 to train" in result.stderr
    assert (tmp_path / "audits" / "tiny-seed0" / "audit.html").is_file()
    again = audit(tmp_path, *common, "--max-minutes", "0")
    assert again.returncode == 0 and "3 models, 0 to train" in again.stderr
    assert str(Path("audits") / "tiny-seed0-2" / "audit.html") in again.stdout
