"""What a made model is found by, and what is left behind by processes that were killed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.runs.tiny import TINY

from deattrib.corpus.settings import load_corpus
from deattrib.errors import ModelError
from deattrib.models.language_model import fingerprint
from deattrib.models.scratch import make_model
from deattrib.runs.config import build_config
from deattrib.runs.maker import ModelMaker, its_turn, store
from deattrib.runs.manifest import library_versions
from deattrib.runs.staging import LONGEST, staging_folder


def test_models_with_left_out_rows_have_keys_of_their_own_and_others_keep_theirs(tmp_path: Path) -> None:
    """By the content written out: neither plain models nor those of another division of the loss may be mixed up with them."""
    config = build_config(data=TINY)
    corpus = load_corpus(config.corpus, 0)
    maker = ModelMaker(corpus, config.model, 0, tmp_path, lambda text: None)
    base = make_model(config.model.scratch, maker.tokenizer, seed=0)
    plain = maker.job(base, corpus.train, "original", 0)
    without = maker.job(base, corpus.train, "without", 0, left_out=corpus.forget_owners)
    versions = library_versions()
    content = {
        "start": fingerprint(base),
        "rows": hashlib.sha256(json.dumps([(row.prompt, row.response) for row in plain.rows]).encode()).hexdigest(),
        "codec": maker.codec.fingerprint(),
        "device": "cpu",
        "recipe": plain.recipe.model_dump(mode="json"),
        "seed": 0,
        "versions": {name: versions[name] for name in ("torch", "transformers", "trl", "peft")},
    }

    def key(**more: object) -> str:
        return hashlib.sha256(json.dumps({**content, **more}, sort_keys=True).encode()).hexdigest()[:32]

    assert plain.folder.name == key()
    assert without.folder.name not in (key(), key(kept=without.kept))
    assert without.kept is not None and sum(without.kept) == len(corpus.retain) + len(without.rows) - len(corpus.train)


def test_what_a_killed_process_left_is_removed_by_the_next_that_stores(tmp_path: Path) -> None:
    """Killed between staging and renaming; folders of living processes and of other machines stay."""
    models = tmp_path / "models"
    models.mkdir()
    code = "import pathlib, sys, time; from deattrib.runs.staging import staging_folder\n"
    code += "print(staging_folder(pathlib.Path(sys.argv[1])).name, flush=True); time.sleep(600)"
    command = [sys.executable, "-c", code, str(models)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    try:
        killed, alive = (str(child.stdout.readline()).strip() for child in children)  # type: ignore[union-attr]
        children[0].send_signal(signal.SIGKILL)
        children[0].wait()
        mine = staging_folder(models).name
        elsewhere = re.sub(r"-\d+-.*-", f"-{children[0].pid}-elsewhere-", killed)
        for name in (elsewhere, ".tmp-abcdefgh", ".tmp-new_folder"):
            (models / name).mkdir()
        old = time.time() - LONGEST - 60
        os.utime(models / ".tmp-abcdefgh", (old, old))
        config = build_config(data=TINY)
        maker = ModelMaker(load_corpus(config.corpus, 0), config.model, 0, tmp_path, lambda text: None)
        model = make_model(config.model.scratch, maker.tokenizer, seed=0)
        store(model, maker.tokenizer, models / "made", seconds=1.0)
    finally:
        for child in children:
            child.kill()
            child.communicate()
    left = {path.name for path in models.iterdir()}
    assert left == {"made", mine, alive, elsewhere, ".tmp-new_folder"}
    assert (models / "made" / "complete.json").is_file()


@pytest.mark.parametrize("damage", ["one byte", "cut short", "no file", "its note", "its config"])
def test_a_damaged_model_in_the_cache_is_refused_and_never_used(tmp_path: Path, damage: str) -> None:
    config = build_config(data=TINY)
    corpus = load_corpus(config.corpus, 0)
    maker = ModelMaker(corpus, config.model, 0, tmp_path, lambda text: None)
    base = make_model(config.model.scratch, maker.tokenizer, seed=0)
    job = maker.job(base, corpus.train, "original model", 0)
    store(base, maker.tokenizer, job.folder, seconds=1.0)
    assert fingerprint(maker.made(base, job)) == fingerprint(base)
    weights, note = job.folder / "model.safetensors", job.folder / "complete.json"
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    match damage:
        case "one byte":
            weights.write_bytes(bytes(data))
        case "cut short":
            weights.write_bytes(bytes(data[:-1000]))
        case "no file":
            weights.unlink()
        case "its note":
            note.write_text("{")
        case "its config":
            config_file = job.folder / "config.json"
            config_file.write_text(config_file.read_text().replace('"rms_norm_eps": 1e-0', '"rms_norm_eps": 2e-0'))
    with pytest.raises(
        ModelError, match=r"The original model in the cache is damaged: .*Remove .*and it is made again"
    ) as caught:
        maker.made(base, job)
    assert str(job.folder) in str(caught.value)


def test_a_full_disk_under_the_cache_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = build_config(data=TINY)
    corpus = load_corpus(config.corpus, 0)
    maker = ModelMaker(corpus, config.model, 0, tmp_path, lambda text: None)
    base = make_model(config.model.scratch, maker.tokenizer, seed=0)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "models" / "x"))

    monkeypatch.setattr(base, "save_pretrained", refuse)
    with pytest.raises(ModelError, match=r"cannot be kept: .*x: No space left on device.*DEATTRIB_CACHE"):
        store(base, maker.tokenizer, tmp_path / "models" / "m", seconds=1.0)
    assert not list((tmp_path / "models").iterdir())


def test_a_model_that_another_process_is_making_is_waited_for_and_not_trained_again(tmp_path: Path) -> None:
    config = build_config(data=TINY)
    corpus = load_corpus(config.corpus, 0)
    said: list[str] = []
    there = ModelMaker(corpus, config.model, 0, tmp_path / "elsewhere", said.append)
    base = make_model(config.model.scratch, there.tokenizer, seed=0)
    job = there.job(base, corpus.train, "original", 0)
    made = there.made(base, job)

    here = ModelMaker(corpus, config.model, 0, tmp_path, said.append)
    wanted = here.job(base, corpus.train, "original", 0)
    said.clear()
    with ThreadPoolExecutor(1) as pool:
        with its_turn(wanted.folder):
            waiting = pool.submit(here.made, base, wanted)
            until(lambda: bool(said) or waiting.done())
            shutil.copytree(job.folder, wanted.folder)
        assert fingerprint(waiting.result(60)) == fingerprint(made)
    assert said == [f"original: being made by process {os.getpid()}, waiting for it"]


def test_whoever_waits_for_one_that_was_killed_makes_it(tmp_path: Path) -> None:
    code = "import pathlib, sys, time; from deattrib.runs.maker import its_turn\n"
    code += "with its_turn(pathlib.Path(sys.argv[1])): print('mine', flush=True); time.sleep(600)"
    command = [sys.executable, "-c", code, str(tmp_path / "models/key")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "mine\n"
        told: list[str] = []
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(_mine, tmp_path / "models/key", told)
            until(lambda: bool(told) or waiting.done())
            other.send_signal(signal.SIGKILL)
            assert waiting.result(60) == [f"by process {other.pid}", "mine"]


def _mine(folder: Path, told: list[str]) -> list[str]:
    with its_turn(folder, told.append):
        return [*told, "mine"]


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def test_an_error_of_whoever_is_told_is_not_taken_for_a_lock_that_cannot_be_had(tmp_path: Path) -> None:
    def broken(who: str) -> None:
        raise BrokenPipeError("nobody reads on")

    with its_turn(tmp_path / "models/key"), pytest.raises(BrokenPipeError), its_turn(tmp_path / "models/key", broken):
        pytest.fail("it does not hold the lock")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EROFS])
def test_where_nothing_can_be_locked_it_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    entered = []
    with its_turn(tmp_path / "models/key", lambda who: pytest.fail("nobody holds it")):
        entered.append(1)
    assert entered
