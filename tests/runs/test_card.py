"""The model card: how what lies beside it is loaded, and the figures under the names that they have everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.runs.tiny import TINY

from deattrib.corpus.settings import load_corpus
from deattrib.runs.card import write_card
from deattrib.runs.config import build_config


@pytest.mark.parametrize(("adapter", "library"), [("lora", "peft"), ("full", "transformers")])
def test_the_card_says_how_what_is_there_is_loaded(tmp_path: Path, adapter: str, library: str) -> None:
    config = build_config(data={**TINY, "policy": {"adapter": adapter}})
    metrics = {"rows": {}, "ceiling": False, "method": "dareu", "reward": "none", "steps": 1}
    write_card(tmp_path / "README.md", config, load_corpus(config.corpus, 0), metrics, model="m")
    text = (tmp_path / "README.md").read_text()
    assert f"library_name: {library}" in text and ("PeftModel" in text) is (adapter == "lora")


def test_figures_have_their_label_and_their_key(tmp_path: Path) -> None:
    config = build_config(data=TINY)
    rows = {"unlearned": {"forget_rouge": 0.25, "tow": 0.5}, "oracle": {"forget_rouge": 0.125}, "oracle_second": None}
    metrics = {"rows": rows, "ceiling": False, "method": "dareu", "reward": "none", "steps": 1}
    write_card(tmp_path / "README.md", config, load_corpus(config.corpus, 0), metrics, model="m")
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert "| | unlearned | oracle |" in lines and "| forget ROUGE (`forget_rouge`) | 0.250 | 0.125 |" in lines
    assert "| utility (`model_utility`) | – | – |" in lines
