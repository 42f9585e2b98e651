"""Who owns what: the rows of a run and where they come from."""

from __future__ import annotations

from deattrib.corpus.fictitious import fictitious_corpus
from deattrib.corpus.jsonl import read_jsonl
from deattrib.corpus.passages import read_texts
from deattrib.corpus.settings import CorpusSettings, load_corpus
from deattrib.corpus.tofu import read_tofu
from deattrib.corpus.types import Corpus, Example

__all__ = ["Corpus", "CorpusSettings", "Example", "fictitious_corpus", "load_corpus", "read_jsonl", "read_texts", "read_tofu"]
