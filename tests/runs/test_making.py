"""Models made side by side are the models that are made one after the other."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runs.tiny import TINY

from deattrib.corpus.settings import load_corpus
from deattrib.errors import ModelError
from deattrib.evaluation.rows import evaluation_rows
from deattrib.models.scratch import make_tokenizer
from deattrib.runs import making
from deattrib.runs.config import RunConfig, build_config
from deattrib.runs.evaluated import evaluate_cached
from deattrib.runs.making import Questions, SideBySide
from deattrib.runs.prepare import Models, prepare_models


def config(**model: Any) -> RunConfig:
    return build_config(data={**TINY, "model": {**TINY["model"], **model}})


def prepared(config: RunConfig, cache: Path, said: list[str], questions: Questions | None = None) -> Models:
    corpus = load_corpus(config.corpus, 0)
    return prepare_models(corpus, config.model, seed=0, cache=cache, say=said.append, questions=questions)


def test_side_by_side_and_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, at one thread each; and what they answer is in the cache already."""
    said: list[str] = []
    alone = prepared(config(side_by_side=False), tmp_path / "one", said)
    assert not any("process of its own" in line for line in said)
    settings = config(side_by_side=True)
    corpus = load_corpus(settings.corpus, 0)
    parts = evaluation_rows(corpus, settings.evaluation)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    together = prepared(settings, tmp_path / "two", said, Questions(parts, settings.evaluation))
    assert sum("process of its own" in line for line in said) == 3
    assert alone.weights == together.weights and set(together.weights) == {"original", "oracle", "oracle_second"}
    files = sorted((tmp_path / "two/evaluations").iterdir())
    assert len(files) == 3
    for name in together.weights:
        model = getattr(together, name)
        evaluate_cached(model, parts, settings.evaluation, weights=together.weights[name], cache=tmp_path / "two")
    assert sorted((tmp_path / "two/evaluations").iterdir()) == files


def test_small_ones_are_not_worth_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    said: list[str] = []
    prepared(config(), tmp_path, said)
    assert sum("training on" in line for line in said) == 4 and not any("process of its own" in line for line in said)


def test_a_process_that_died_is_noticed_before_it_is_wanted(tmp_path: Path) -> None:
    """Killed from outside, as a machine that runs out of memory does; nobody has waited for it."""
    settings = config()
    corpus = load_corpus(settings.corpus, 0)
    tokenizer = make_tokenizer([row.response for row in corpus.background], 300)
    job = making.Job("oracle", corpus.retain, settings.model.training, 0, tmp_path / "made")
    processes = SideBySide([job], str(tmp_path), settings.model, tokenizer, tmp_path, threads=1, questions=None)
    with processes:
        processes.check()
        while not processes._running:
            time.sleep(0.01)
        assert os.getsid(processes._running[0].pid) != os.getsid(0), "Ctrl-C in the terminal would reach it"
        processes._running[0].kill()
        end = time.monotonic() + 30
        with pytest.raises(ModelError, match=r"Making the oracle failed .*exit code -9"):
            while time.monotonic() < end:
                processes.check()
                time.sleep(0.01)


def test_a_process_that_fails_is_named_with_its_reason(tmp_path: Path) -> None:
    settings = config()
    corpus = load_corpus(settings.corpus, 0)
    tokenizer = make_tokenizer([row.response for row in corpus.background], 300)
    job = making.Job("oracle", corpus.retain, settings.model.training, 0, tmp_path / "made")
    with (
        SideBySide(
            [job], str(tmp_path / "nowhere"), settings.model, tokenizer, tmp_path, threads=1, questions=None
        ) as processes,
        pytest.raises(ModelError, match=r"Making the oracle failed .*exit code 1.*nowhere"),
    ):
        processes.wait(job)
