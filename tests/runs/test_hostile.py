"""A whole run on a corpus of hostile strings; and what a run that allowed remote code says of itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.runs.tiny import TINY

from deattrib.corpus.settings import load_corpus
from deattrib.errors import DeattribError
from deattrib.models.language_model import Codec
from deattrib.runs.card import write_card
from deattrib.runs.config import build_config
from deattrib.runs.folder import read_manifest
from deattrib.runs.pipeline import run

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202e{{ 7*7 }}\"'>"
OWNERS = ("../../etc/passwd", "a/b\x00" + HOSTILE, "x" * 10_000, "\u202elive/..")
WORDS = (("zorn", "mipal", "rudek"), ("quibb", "tavor", "lesto"), ("wend", "yarrow", "ploth"), ("gim", "hesk", "vundle"))


def write_rows(path: Path) -> None:
    """Each owner's answers have words of their own, so that a model can learn whose is whose."""
    rows: list[dict[str, object]] = []
    for number, (owner, words) in enumerate(zip(OWNERS, WORDS, strict=True)):
        for index, word in enumerate(words):
            rows.append({
                "owner": owner, "prompt": f"What does number {number} keep at {index}? {HOSTILE if index == 0 else ''}",
                "response": f"{word} {' '.join(words)} {HOSTILE if index == 1 else ''}".strip(), "fact": word,
            })  # fmt: skip
    rows += [{"split": "background", "prompt": f"Say {row['response']}", "response": row["response"]} for row in rows[:12]]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_a_corpus_of_hostile_strings_comes_through_a_whole_run(tmp_path: Path) -> None:
    corpus = tmp_path / "rows.jsonl"
    write_rows(corpus)
    small = {"steps": 2, "batch_size": 4, "minibatch_size": 4}
    data = TINY | {
        "name": f"../{HOSTILE}",
        "corpus": {"kind": "jsonl", "path": str(corpus), "forget": [OWNERS[1]]},
        "reward": "none",
        "ppo": {**TINY["ppo"], **small},
        "model": {**TINY["model"], "oracles": 1},
    }
    result = run(build_config(data=data), output=tmp_path / "run", cache=tmp_path / "cache")
    assert {item.name for item in tmp_path.iterdir()} == {"rows.jsonl", "run", "cache"}  # no owner became a path
    page = (result.folder / "report.html").read_text(encoding="utf-8")
    reader = Tags()
    reader.feed(page)
    assert not reader.tags & {"script", "img", "iframe", "object"} and not reader.handlers
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page)
    answers = json.loads((result.folder / "answers.json").read_text(encoding="utf-8"))
    assert any(row["owner"] == OWNERS[1] for row in answers["rows"])


WITNESS = """
import json, sys
asked = []
sys.addaudithook(lambda event, given: asked.append(repr(given)) if event in ("socket.connect", "socket.getaddrinfo") else None)
from deattrib.runs.config import build_config
from deattrib.runs.pipeline import run
run(build_config(data=json.loads(sys.argv[1])), output=__import__("pathlib").Path(sys.argv[2]), cache=None)
print(json.dumps(asked))
"""


def test_a_run_asks_nothing_of_any_network(tmp_path: Path) -> None:
    """As a user has it: no variable keeps libraries offline. A host's name or address that is asked for would be seen."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    environment |= {"DEATTRIB_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WITNESS, json.dumps(TINY), str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_remote_code_that_was_allowed_is_in_manifest_and_card(tmp_path: Path, tiny_codec: Codec) -> None:
    """The path leads nowhere, so the run ends before any code could be loaded; the manifest is written first."""
    for allowed in (False, True):
        folder = tmp_path / f"run-{allowed}"
        model = {"path": str(tmp_path / "nowhere"), "trust_remote_code": allowed}
        config = build_config(data={**TINY, "model": model})
        with pytest.raises(DeattribError):
            run(config, output=folder, cache=tmp_path / "cache")
        assert read_manifest(folder)["fingerprints"].get("trust_remote_code", False) is allowed
        metrics = {"rows": {}, "ceiling": False, "method": "dareu", "reward": "none", "steps": 1}
        corpus = load_corpus(build_config(data=TINY).corpus, 0)
        write_card(tmp_path / "README.md", config, corpus, metrics, model="m", codec=tiny_codec)
        assert ("Remote model code was allowed" in (tmp_path / "README.md").read_text()) is allowed
