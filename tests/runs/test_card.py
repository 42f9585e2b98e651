"""The model card: how what lies beside it is loaded, and the figures under the names that they have everywhere."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from tests.runs.tiny import TINY

from deattrib.corpus.settings import load_corpus
from deattrib.models.language_model import Codec
from deattrib.runs.card import write_card
from deattrib.runs.config import build_config


@pytest.mark.parametrize(("adapter", "library"), [("lora", "peft"), ("full", "transformers")])
def test_the_card_says_how_what_is_there_is_loaded(tmp_path: Path, tiny_codec: Codec, adapter: str, library: str) -> None:
    config = build_config(data={**TINY, "policy": {"adapter": adapter}})
    metrics = {"rows": {}, "ceiling": False, "method": "dareu", "reward": "none", "steps": 1}
    write_card(tmp_path / "README.md", config, load_corpus(config.corpus, 0), metrics, model="m", codec=tiny_codec)
    text = (tmp_path / "README.md").read_text()
    assert f"library_name: {library}" in text and ("PeftModel" in text) is (adapter == "lora")


def test_figures_have_their_label_and_their_key(tmp_path: Path, tiny_codec: Codec) -> None:
    config = build_config(data=TINY)
    rows = {"unlearned": {"forget_rouge": 0.25, "tow": 0.5}, "oracle": {"forget_rouge": 0.125}, "oracle_second": None}
    metrics = {"rows": rows, "ceiling": False, "method": "dareu", "reward": "none", "steps": 1}
    write_card(tmp_path / "README.md", config, load_corpus(config.corpus, 0), metrics, model="m", codec=tiny_codec)
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert "| | unlearned | oracle |" in lines and "| forget ROUGE (`forget_rouge`) | 0.250 | 0.125 |" in lines
    assert "| utility (`model_utility`) | – | – |" in lines


def test_it_says_how_the_model_is_asked(tmp_path: Path, tiny_tokenizer: Any) -> None:
    config = build_config(data=TINY)
    metrics = {"rows": {}, "ceiling": False, "method": "dareu", "reward": "none", "steps": 1}
    chatting = copy.deepcopy(tiny_tokenizer)
    chatting.chat_template = "{{ messages[0].content }}"
    for codec, said in (
        (Codec(tiny_tokenizer, template="Q: {prompt} A:"), "'Q: {prompt} A:'"),
        (Codec(tiny_tokenizer), "'{prompt}\\n'"),
        (Codec(chatting), "apply_chat_template"),
    ):
        write_card(tmp_path / "README.md", config, load_corpus(config.corpus, 0), metrics, model="m", codec=codec)
        assert said in (tmp_path / "README.md").read_text()
