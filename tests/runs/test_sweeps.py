"""Runs as jobs of submitit: queued again when preempted, gone on with when killed, submitted once; SLURM is a script here."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.runs.tiny import TINY

from deattrib.errors import ConfigError, RunError
from deattrib.runs.compare import Comparison, Executor, compare
from deattrib.runs.events import read_events
from deattrib.runs.matrix import Matrix

submitit = pytest.importorskip("submitit")

# Sends a signal to its own process, once: at the first call of a step that finds the file.
ARMED = """
import os
from pathlib import Path
from deattrib_scorers.classifier import Classifier

class Armed(Classifier):
    calls = 0

    def score_prefixes(self, rows, ends):
        Armed.calls += 1
        trap = Path(__file__).with_name("armed")
        if Armed.calls == 7 and trap.exists():
            number = int(trap.read_text())
            trap.unlink()
            os.kill(os.getpid(), number)
        return super().score_prefixes(rows, ends)
"""

# A cluster of this machine: a job is a process group of its own, its state is a file, and requeueing starts the script again.
SLURM = """#!{python}
import os, re, subprocess, sys
from pathlib import Path
home = Path({home!r})
name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
with (home / "calls").open("a") as file:
    file.write(f"{{name}} {{' '.join(arguments)}}\\n")
if name == "sbatch":
    number = str(100 + len(list(home.glob("*.state"))))
    (home / f"{{number}}.state").write_text("RUNNING")
    (home / f"{{number}}.sh").write_text(Path(arguments[0]).read_text())
    command = [sys.executable, sys.argv[0].replace("sbatch", "controller"), number]
    subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(f"Submitted batch job {{number}}")
elif name == "controller":
    (number,) = arguments
    again = home / f"{{number}}.again"
    while True:
        again.unlink(missing_ok=True)
        code = subprocess.run(["bash", home / f"{{number}}.sh"], env={{**os.environ, "SLURM_JOB_ID": number}}).returncode
        if not again.exists():
            break
    (home / f"{{number}}.state").write_text("COMPLETED" if code == 0 else "FAILED")
elif name == "srun":
    options = dict(zip(arguments, arguments[1:]))
    start = next(place for place, word in enumerate(arguments) if word == sys.executable)
    fill = lambda path: path.replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0")
    with open(fill(options["--output"]), "a") as out, open(fill(options["--error"]), "a") as error:
        sys.exit(subprocess.run(arguments[start:], stdout=out, stderr=error).returncode)
elif name == "scontrol":
    (home / f"{{arguments[1]}}.again").touch()
elif name == "sacct":
    print("JobID|State|NodeList")
    for number in arguments[arguments.index("--parsable2") + 2::2]:
        path = home / f"{{number}}.state"
        if path.exists():
            print(f"{{number}}|{{path.read_text()}}|here")
"""


@pytest.fixture(scope="module")
def cache(tiny_cache: Path) -> Path:
    return tiny_cache


def matrix(folder: Path, *, armed: int = 0) -> Matrix:
    """One run, whose reward sends a signal to its job in step 3, once."""
    (folder / "armed.py").write_text(ARMED)
    if armed:
        (folder / "armed").write_text(str(armed))
    scorer = {"name": f"{folder / 'armed.py'}:Armed", "epochs": 30}
    return Matrix({**TINY, "reward": scorer}, {"armed": scorer}, {}, (0,), {}, {})


def printed(done: Comparison) -> str:
    (log,) = (done.folder / "logs").iterdir()
    return log.read_text()


def steps(done: Comparison) -> list[Any]:
    (folder,) = (done.folder / "runs").iterdir()
    return [event["step"] for event in read_events(folder / "events.jsonl") if event["kind"] == "step"]


def test_a_preempted_job_saves_its_step_and_is_queued_again(tmp_path: Path, cache: Path) -> None:
    said: list[str] = []
    executor = Executor("local", {"timeout_min": 10})
    task = matrix(tmp_path, armed=signal.SIGUSR2)
    done = compare(task, output=tmp_path / "out", cache=cache, executor=executor, say=said.append, samples=20)
    assert [line.split()[0] for line in said] == ["begun", "finished"]
    assert done.content["entries"][0]["score"] is not None
    assert "error: ended by SIGTERM" in printed(done) and "continuing after step 3" in printed(done)
    assert steps(done) == [1, 2, 3, 4, 5, 6]
    again = compare(task, output=tmp_path / "out", cache=cache, executor=executor, say=said.append, samples=20)
    assert said[2].startswith("found") and len(said) == 3 and again.content["entries"] == done.content["entries"]


@pytest.mark.slow
def test_a_killed_job_is_gone_on_with_by_the_same_command(tmp_path: Path, cache: Path) -> None:
    task = matrix(tmp_path, armed=signal.SIGKILL)
    outputs = {"output": tmp_path / "out", "cache": cache, "executor": Executor("local"), "samples": 20}
    first = compare(task, **outputs)  # type: ignore[arg-type]
    assert "run the same command again" in first.content["entries"][0]["runs"][0]["error"]
    second = compare(task, **outputs)  # type: ignore[arg-type]
    assert second.content["entries"][0]["score"] is not None
    assert "continuing after step 2" in printed(second) and steps(second) == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_a_run_that_fails_is_a_row_with_its_reason(tmp_path: Path, cache: Path) -> None:
    task = Matrix({**TINY, "corpus": {**TINY["corpus"], "forget": 40}}, {}, {"ga": "ga"}, (0,), {}, {})
    done = compare(task, output=tmp_path, cache=cache, executor=Executor("local"), samples=20)
    assert "40" in done.content["entries"][0]["runs"][0]["error"] and "Traceback" not in printed(done)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a made-up cluster whose commands come first on the path."""
    home = tmp_path / "slurm"
    home.mkdir()
    for name in ("sbatch", "srun", "sacct", "scontrol", "scancel", "controller"):
        (home / name).write_text(SLURM.format(python=sys.executable, home=str(home)))
        (home / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}{os.pathsep}{os.environ['PATH']}")
    return home


@pytest.mark.slow
def test_jobs_of_a_cluster_are_submitted_once_and_queued_again(tmp_path: Path, cache: Path, slurm: Path) -> None:
    executor = Executor("slurm", {"slurm_partition": "gpu", "timeout_min": 600})
    task = matrix(tmp_path, armed=signal.SIGUSR2)
    seen: list[str] = []

    def interrupt(text: str) -> None:
        seen.append(text)
        if text.startswith("begun"):
            raise KeyboardInterrupt  # the command ends, its job does not

    with pytest.raises(KeyboardInterrupt):
        compare(task, output=tmp_path / "out", cache=cache, executor=executor, say=interrupt, samples=20)
    assert "scancel 100" in seen[-1]
    said: list[str] = []
    done = compare(task, output=tmp_path / "out", cache=cache, executor=executor, say=said.append, samples=20)
    assert [line.split()[0] for line in said] == ["waiting", "begun", "finished"] and "job 100" in said[0]
    assert done.content["entries"][0]["score"] is not None and steps(done) == [1, 2, 3, 4, 5, 6]
    calls = (slurm / "calls").read_text().splitlines()
    assert len([call for call in calls if call.startswith("sbatch ")]) == 1
    assert len([call for call in calls if call.startswith("scontrol requeue 100")]) == 1
    (script,) = (tmp_path / "out" / "jobs" / "submitit").glob("100_submission.sh")
    assert "--partition=gpu" in script.read_text()


@pytest.mark.parametrize(
    ("executor", "error", "said"),
    [
        (Executor("slrum"), ConfigError, "Did you mean 'slurm'"),
        (Executor("processes", {"timeout_min": 3}), ConfigError, "--executor local or slurm"),
        (Executor("local", {"slurm_partion": "gpu"}), ConfigError, "partion"),
        (Executor("local", {"timeout_min": "long"}), ConfigError, "timeout_min"),
        (Executor("slurm"), RunError, "srun"),
    ],
)
def test_a_wrong_executor_is_said_before_anything_runs(
    tmp_path: Path, executor: Executor, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(error, match=said):
        compare(Matrix(TINY, {}, {"ga": "ga"}, (0,), {}, {}), output=tmp_path / "o", cache=tmp_path, executor=executor)
    assert not (tmp_path / "o" / "runs").exists()


def test_what_is_pickled_is_a_name_and_a_path(tmp_path: Path) -> None:
    """The job's own pickle holds no code: a class that the library has, and where the JSON is."""
    import pickletools

    from deattrib.runs.sweeps import Run

    path = tmp_path / "job.pkl"
    submitit.helpers.DelayedSubmission(Run(str(tmp_path / "job.json"))).dump(path)
    strings = {argument for _, argument, _ in pickletools.genops(path.read_bytes()) if isinstance(argument, str)}
    assert {"deattrib.runs.sweeps", "Run", str(tmp_path / "job.json")} <= strings
    assert not {text for text in strings if "cloudpickle" in text or "builtins" in text}
    assert json.dumps(sorted(strings)).count("deattrib") == 1
