"""The attributor standing alone: what it takes, what it gives, and how it says no."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.calibration import Calibration
from deattrib.attribution.context import ScorerContext
from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.scorer import Row, Rows, Scorer
from deattrib.attribution.settings import CalibrationSettings
from deattrib.corpus.jsonl import read_jsonl
from deattrib.corpus.types import Corpus
from deattrib.errors import CalibrationError, ConfigError, CorpusError
from deattrib.models.language_model import Codec, LanguageModel, fingerprint

OFF = CalibrationSettings(enabled=False)
RECORDS = [
    {"owner": owner, "prompt": f"What did {owner} make in {year}?", "response": f"{thing} {year}"}
    for owner, thing in {"ada": "tin", "bo": "oak", "cy": "wool", "di": "silk"}.items()
    for year in range(3)
]


class Overlap(Scorer):
    """Share of a response's words that are in the owner's texts."""

    name = "overlap"

    def fit(self, context: ScorerContext) -> None:
        self.words = {owner: set(" ".join(texts).split()) for owner, texts in context.texts_by_owner.items()}

    def score(self, rows: Rows) -> list[float]:
        return [sum(w in self.words[r.owner] for w in r.response.split()) / max(len(r.response.split()), 1) for r in rows]


class Live(Scorer):
    """The original model's own likelihood, asked for at every call."""

    name = "live"

    def fit(self, context: ScorerContext) -> None:
        self.context = context

    def score(self, rows: Rows) -> Tensor:
        return self.context.original.token_log_probs(rows.batch).sum(1).exp()


def attributor(scorers: Any) -> Attributor:
    return Attributor(scorers, registry=PluginRegistry(entry_points=False), calibration=OFF)


@pytest.fixture
def fitted(tiny_llama: nn.Module, tiny_tokenizer: Any) -> Attributor:
    return attributor(Overlap).fit(RECORDS, tiny_llama, tiny_tokenizer)


def test_a_file_and_dicts_are_the_same_corpus(tmp_path: Path, tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in RECORDS))
    for corpus in (str(path), path, RECORDS, read_jsonl(path, forget=2)):
        context = attributor(Overlap).fit(corpus, LanguageModel(tiny_llama, tiny_codec)).context
        assert context is not None
        assert context.owners == ("ada", "bo", "cy", "di") and context.forget_owners == ("cy", "di")
        assert [row.response for row in context.rows_by_owner["bo"]] == ["oak 0", "oak 1", "oak 2"]


@pytest.mark.parametrize(("forget", "expected"), [("bo", ("bo",)), (["ada", "di"], ("ada", "di")), (1, ("di",))])
def test_whom_to_forget_can_be_said(tiny_llama: nn.Module, tiny_tokenizer: Any, forget: Any, expected: Any) -> None:
    for corpus in (RECORDS, read_records_corpus()):
        context = attributor(Overlap).fit(corpus, tiny_llama, tiny_tokenizer, forget=forget).context
        assert context is not None and context.forget_owners == expected


def read_records_corpus() -> Corpus:
    from deattrib.attribution.inputs import as_corpus

    return as_corpus(RECORDS, "cy")


def test_tuples_rows_and_dicts_are_the_same_rows(fitted: Attributor) -> None:
    texts = [("Q?", "tin 2 boxes", "ada"), ("Q?", "tin", "bo")]
    as_dicts = [dict(zip(("prompt", "response", "owner"), text, strict=True)) for text in texts]
    expected = [2 / 3, 0.0]
    for rows in (texts, [Row(*text) for text in texts], as_dicts, [list(text) for text in texts]):
        assert fitted.attribution(rows).tolist() == pytest.approx(expected)
    batch = fitted.rows(*zip(*texts, strict=True))
    assert fitted.attribution(batch).tolist() == pytest.approx(expected)


def test_every_owner_at_once(fitted: Attributor) -> None:
    rows = [("Q?", "tin 2"), ("Q?", "oak wool 1 7")]
    assert fitted.attributions(rows).tolist() == [[1, 0.5, 0.5, 0.5], [0.25, 0.5, 0.5, 0.25]]
    assert fitted.attributions(rows, ["bo", "ada"]).tolist() == [[0.5, 1], [0.5, 0.25]]
    assert fitted.scores(rows, ["di"])["overlap"].tolist() == [[0.5], [0.25]]


class Letters(Overlap):
    """Another scale: how many of the owner's letters a response has; all owners in one call."""

    name = "letters"

    def score(self, rows: Rows) -> list[float]:
        return [float(len(set(row.response) & set("".join(self.words[row.owner])))) for row in rows]

    def score_owners(self, rows: Rows, owners: Sequence[str]) -> list[list[float]]:
        columns = [self.score(rows.about([owner] * len(rows))) for owner in owners]
        return [list(row) for row in zip(*columns, strict=True)]


def test_the_column_of_an_owner_is_the_attribution_to_it(tiny_corpus: Corpus, tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    """A weighted mix of two scales that depend on the length: the same numbers one owner at a time."""
    mixed = attributor([Overlap(), Letters()]).fit(tiny_corpus, LanguageModel(tiny_llama, tiny_codec))
    scales = [Calibration((6, 100), (0.1, 0.3), (0.6, 0.9), {}), Calibration((6, 100), (3.0, 5.0), (12.0, 25.0), {})]
    mixed._parts = [
        dataclasses.replace(part, calibration=scale, weight=weight)
        for part, scale, weight in zip(mixed._parts, scales, (0.7, 0.3), strict=True)
    ]
    texts = [row.response for row in tiny_corpus.train[::7]] + ["a", "in the"]
    together = mixed.attributions([("Who?", text) for text in texts])
    assert len(together.unique()) > 10
    for column, owner in enumerate(tiny_corpus.owners):
        assert torch.equal(together[:, column], mixed.attribution([("Who?", text, owner) for text in texts]))
    assert float(mixed.scores([("Who?", texts[0])])["letters"].max()) > 1


def test_raw_scores_out_of_range_are_refused_without_a_scale(tiny_llama: nn.Module, tiny_tokenizer: Any) -> None:
    fitted = attributor(Letters).fit(RECORDS, tiny_llama, tiny_tokenizer)
    with pytest.raises(CalibrationError, match=r"'letters'.*\[0, 1\]"):
        fitted.attributions([("Q?", "tin 2")])


def test_names_that_occur_twice_are_numbered(tiny_llama: nn.Module, tiny_tokenizer: Any) -> None:
    mixed = attributor([Overlap(), Overlap()]).fit(RECORDS, tiny_llama, tiny_tokenizer)
    assert list(mixed.scores([("Q?", "tin")])) == ["overlap#1", "overlap#2"]


def test_a_bare_model_is_copied(tiny_llama: nn.Module, tiny_tokenizer: Any) -> None:
    """Training it afterwards does not change what the original says; nor is it frozen."""
    before = fingerprint(tiny_llama)
    fitted = attributor(Live).fit(RECORDS, tiny_llama, tiny_tokenizer)
    first = fitted.scores([("Q?", "tin")])["live"]
    assert fingerprint(tiny_llama) == before and all(parameter.requires_grad for parameter in tiny_llama.parameters())
    with torch.no_grad():
        for parameter in tiny_llama.parameters():
            parameter.mul_(2)
    assert torch.equal(fitted.scores([("Q?", "tin")])["live"], first)


def test_a_model_fresh_from_a_trainer_is_copied_too(tiny_llama: nn.Module, tiny_tokenizer: Any) -> None:
    """accelerate leaves a `forward` on the instance that a plain copy would share with the model it was copied from."""
    tiny_llama.forward = tiny_llama.forward
    fitted = attributor(Live).fit(RECORDS, tiny_llama, tiny_tokenizer)
    first = fitted.scores([("Q?", "tin")])["live"]
    with torch.no_grad():
        tiny_llama.get_parameter("model.norm.weight").mul_(3)
    assert torch.equal(fitted.scores([("Q?", "tin")])["live"], first)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("Q?", "tin", "adda")], r"Row 0: owner 'adda' is not in the corpus. Did you mean 'ada'"),
        ([("Q?", "tin", "ada"), "tin"], r"Row 1 is 'tin': expected \(prompt, response, owner\)"),
        ([("Q?", 3, "ada")], r"Row 0: response is a int, expected text"),
        ([{"prompt": "Q?", "respons": "tin"}], r"Row 0 has no 'response'. Did you mean 'respons'"),
        ([("Q?", "tin")], r"Row 0 has no owner"),
    ],
)
def test_bad_rows_are_named(fitted: Attributor, rows: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fitted.attribution(rows)


def test_other_wrong_inputs_are_named(fitted: Attributor, tiny_llama: nn.Module, tiny_tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match=r"'adda' is not in the corpus. Did you mean 'ada'"):
        fitted.attributions([("Q?", "tin")], ["adda"])
    with pytest.raises(ConfigError, match=r"needs its tokenizer"):
        attributor(Overlap).fit(RECORDS, tiny_llama)
    with pytest.raises(ConfigError, match=r"model is a str"):
        attributor(Overlap).fit(RECORDS, "gpt2", tiny_tokenizer)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"corpus is a int"):
        attributor(Overlap).fit(3, tiny_llama, tiny_tokenizer)  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match=r"rows: record 1: response is missing"):
        attributor(Overlap).fit([{"owner": "ada", "prompt": "Q?"}], tiny_llama, tiny_tokenizer)
    with pytest.raises(ConfigError, match=r"before Attributor\.fit"):
        attributor(Overlap).attributions([("Q?", "tin")])
