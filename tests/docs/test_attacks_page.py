"""docs/attacks.md says what is installed, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.attacks.conftest import SETTINGS
from torch import nn

from deattrib import PluginRegistry
from deattrib.attacks.base import AttackSubject
from deattrib.corpus.types import Corpus
from deattrib.models.language_model import Codec, LanguageModel

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")


def test_every_installed_attack_is_described() -> None:
    registry = PluginRegistry()
    parts = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    for name in registry.names("attack"):
        text = " ".join(parts[name].split())
        assert all(word in text for word in ("**Shows**", "**Cost**", "**Misleads**")), name
        if name != "relearning-retain":  # its source is that of relearning, just above
            assert all(number in text for number in re.findall(r"arXiv \d{4}\.\d{5}", registry.attack(name).source)), name


def test_the_page_is_found_and_has_no_dead_links() -> None:
    assert "docs/attacks.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [part.split(")")[0].split("#")[0] for part in PAGE.split("](")[1:]]
    assert targets and [target for target in targets if not (ROOT / "docs" / target).exists()] == []


def test_the_example_is_a_complete_attack(
    tmp_path: Path, tiny_corpus: Corpus, tiny_codec: Codec, tiny_llama: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shouting.py").write_text(PAGE.split("```python\n")[1].split("```")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    cls = PluginRegistry(entry_points=False).attack("./shouting.py:Shouting")
    subject = AttackSubject("original", LanguageModel(tiny_llama, tiny_codec), tiny_corpus, SETTINGS, seed=0)
    result = cls().run(subject)
    answers = subject.answers([row.prompt.upper() for row in subject.forget])
    assert result.figure == subject.rouge(answers, subject.forget).mean()
