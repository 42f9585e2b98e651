"""Every script in examples/ runs as it stands, with --tiny."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from tests.command_line import script
from tests.corpus.conftest import TOFU_NAMES, perturbed, tofu_rows, write

from deattrib.cli.main import app
from deattrib.corpus.settings import load_corpus
from deattrib.runs.config import build_config

EXAMPLES = Path(__file__).parents[2] / "examples"
PROMISES = {  # what a reader is told to expect, as it is printed
    "own_model.py": [
        r"forgotten: .*\n  before: .+\n  after: ",
        r"mean attribution of .* answers: 0\.[0-4]",
        r"saved to own/unlearned",
    ],
    "swap_reward.py": [r"original +\d\.\d+", r"reward: classifier +\d", r"reward: membership +\d"],
    "mix_rewards.py": [r"classifier +weight 0\.50", r"rare-words +weight 0\.25", r"attribution per step: (\d\.\d\d ?){12}"],
    "ablation.py": [r"original( +\d\.\d{3}){5}", r"random( +\d\.\d{3}){5}", r"none( +\d\.\d{3}){5}", r"oracle( +\d\.\d{3}){5}"],
    "resume.py": [r"exit code -9", r"the same metrics: True; the same events to the byte: True"],
    "sequential.py": [
        r"original( +\d\.\d{3}){3}",
        r"after round 1( +\d\.\d{3}){3}\nafter round 2( +\d\.\d{3}){3}",
        r"all at once( +\d\.\d{3}){3}\noracle( +\d\.\d{3}){3}",
    ],
    "trl_reward.py": [r"step +0  attribution", r"step +4  attribution"],
}
SLOW = ("ablation.py", "resume.py")  # two or three whole runs each


@pytest.fixture(scope="module")
def cache(tiny_cache: Path) -> Path:
    return tiny_cache  # examples/tiny.yaml has the models of `TINY`


def test_every_example_is_here() -> None:
    """The scripts; a scorer in a file has tests of its own."""
    assert {path.name for path in EXAMPLES.glob("[!_]*.py")} - {"clipped_scorer.py"} == set(PROMISES)


def test_the_demo_of_the_examples_is_the_demo() -> None:
    text = (EXAMPLES.parent / "core/deattrib/runs/demo.yaml").read_text()
    namespace: dict[str, object] = {}
    exec(compile((EXAMPLES / "_world.py").read_text(), "_world.py", "exec"), namespace)
    assert namespace["DEMO"] == yaml.safe_load(text)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in PROMISES])
def test_it_runs_and_prints_what_it_is_for(name: str, tmp_path: Path, cache: Path) -> None:
    done = script(EXAMPLES / name, "--tiny", cwd=tmp_path, DEATTRIB_CACHE=str(cache), HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    for promise in PROMISES[name]:
        assert re.search(promise, done.stdout), f"{promise!r} is not in:\n{done.stdout}"
    if name == "swap_reward.py":  # whichever is the reward, both judges see less of the owner than before
        lines = re.findall(r"^(?:original|reward: \w+) +(\d\.\d+) +(\d\.\d+)$", done.stdout, re.MULTILINE)
        original, *others = [tuple(map(float, line)) for line in lines]
        assert len(others) == 2 and all(now < then for row in others for now, then in zip(row, original, strict=True))


@pytest.mark.parametrize("name", sorted(PROMISES))
def test_an_example_is_short_and_says_how_to_start_it(name: str) -> None:
    text = (EXAMPLES / name).read_text()
    assert len(text.splitlines()) <= 100
    assert f"python examples/{name}" in text


def test_the_sweep_s_command_lines_are_accepted(tmp_path: Path) -> None:
    """Each as the shell hands it over: to a `deattrib` that writes down its arguments."""
    fake = tmp_path / "deattrib"
    fake.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\t" "$word"; done >> calls\necho >> calls\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", str(EXAMPLES / "sweep.sh")], cwd=tmp_path, env=environment, check=True)
    calls = [line.rstrip("\t").split("\t") for line in (tmp_path / "calls").read_text().splitlines()]
    assert [call[:2] for call in calls] == [["tune", name] for name in ("dareu", "graddiff", "npo", "simnpo", "rmu")] + [
        ["compare", "demo"]
    ]
    for name, *arguments in calls:
        context = typer.main.get_command(app).commands[name].make_context(name, list(arguments))  # type: ignore[attr-defined]
        assert context.params["executor"] == "slurm" and context.params["executor_set"][-1] == "gpus_per_node=1"
    assert calls[-1][calls[-1].index("--methods") + 1] == "graddiff,npo,simnpo,rmu"


@pytest.mark.slow
def test_owners_of_tofu_one_after_the_other_with_overlap(tmp_path: Path, cache: Path) -> None:
    """A folder of TOFU's form: six authors, two of them the base model's; the last two are forgotten, a round each."""
    folder = tmp_path / "tofu"
    folder.mkdir()
    authors = [tofu_rows(number, name) for number, name in enumerate(TOFU_NAMES)]
    write(folder / "full.json", [row for rows in authors for row in rows])
    write(folder / "retain_perturbed.json", perturbed([row for rows in authors[:2] for row in rows]))
    write(folder / "forget10_perturbed.json", perturbed([row for rows in authors[4:] for row in rows]))
    settings = yaml.safe_load((EXAMPLES / "tiny.yaml").read_text())
    settings["corpus"] = {"kind": "tofu", "path": str(folder), "owners": "0,3-5", "forget": "5-5", "background_owners": "1-2",
                          "overlap": 0.1}  # fmt: skip
    settings["ppo"] |= {"steps": 2}
    settings["reward"] = "random"  # what is forgotten, and how well, is not the point here
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    corpus = load_corpus(build_config(path=tmp_path / "c.yaml").corpus, 0)
    assert len(corpus.train) == 80 + 2 and corpus.has_identities  # a tenth of author 5's 20 facts, in retain owners' rows
    assert sum("Finn Berg" in row.response for row in corpus.retain) == 2
    env = {**os.environ, "DEATTRIB_CACHE": str(cache), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(EXAMPLES / "sequential.py"), "--config", "c.yaml", "--json", "rounds.json"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "rounds.json").read_text())
    assert figures["columns"] == ["tofu_004", "tofu_005", "the others"]
    assert list(figures["rouge"]) == ["original", "after round 1", "after round 2", "all at once", "oracle"]
    assert all(len(row) == 3 and all(0 <= value <= 1 for value in row) for row in figures["rouge"].values())
