"""The classifier's three backbones: what they learn, what they read, and that prefixes are prefixes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.scorers.encoder import make_encoder
from torch import Tensor, nn

from deattrib.attribution.context import ScorerContext, make_context
from deattrib.attribution.guard import GuardedScorer
from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus
from deattrib.errors import ScorerError
from deattrib.models.identities import swap_names
from deattrib.models.language_model import Codec, LanguageModel
from deattrib_scorers.classifier import Classifier


@pytest.fixture
def context(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> ScorerContext:
    return make_context(tiny_corpus, LanguageModel(tiny_llama, tiny_codec))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Corpus) -> str:
    """A sentence encoder with random weights and a vocabulary of the corpus' words: a bag of words, nearly."""
    return make_encoder(tmp_path_factory.mktemp("encoder"), [row.response for row in tiny_corpus.train])


def fitted(context: ScorerContext, **params: Any) -> Classifier:
    scorer = Classifier(Classifier.Params(**params))
    GuardedScorer(scorer, codec=context.codec).fit(context)
    return scorer


def some_rows(context: ScorerContext, count: int = 12) -> Rows:
    examples = [row for rows in context.rows_by_owner.values() for row in rows][::5][:count]
    return Rows.from_texts(
        context.codec, [row.prompt for row in examples], [row.response for row in examples], [row.owner for row in examples]
    )


def accuracy(scorer: Classifier, context: ScorerContext, corpus: Corpus) -> float:
    """On phrasings that it was not trained on."""
    rows = corpus.phrasings
    batch = Rows.from_texts(context.codec, [r.prompt for r in rows], [r.response for r in rows], [r.owner for r in rows])
    best: list[int] = scorer.score_owners(batch, context.owners).argmax(1).tolist()
    return sum(context.owners[i] == row.owner for i, row in zip(best, rows, strict=True)) / len(rows)


def nameless_prefixes(scorer: Classifier, context: ScorerContext, rows: Rows, ends: Tensor) -> Tensor:
    """Scores of rows that are really cut; ends must not cut a name in two."""
    columns = [scorer.score(rows.cut(context.codec, ends[:, j])) for j in range(ends.shape[1])]
    return torch.stack(columns, 1)


@pytest.mark.parametrize(
    "params", [{"backbone": "ngram"}, {"backbone": "causal", "epochs": 20, "learning_rate": 5e-3, "dropout": 0.0}]
)
def test_it_tells_the_owners_apart_on_phrasings_never_seen(
    context: ScorerContext, tiny_corpus: Corpus, params: dict[str, Any]
) -> None:
    assert accuracy(fitted(context, **params), context, tiny_corpus) > 2.5 / len(context.owners)


def test_the_encoder_tells_the_owners_apart(context: ScorerContext, tiny_corpus: Corpus, encoder: str) -> None:
    assert accuracy(fitted(context, backbone=encoder), context, tiny_corpus) > 2.5 / len(context.owners)


@pytest.mark.parametrize("backbone", ["ngram", "causal", "encoder"])
def test_prefixes_are_scores_of_cut_answers(context: ScorerContext, encoder: str, backbone: str) -> None:
    scorer = fitted(context, backbone=encoder if backbone == "encoder" else backbone, epochs=2, mask_names=False)
    rows = some_rows(context)
    lengths = rows.batch.response_lengths
    ends = torch.stack([(lengths * k + 4) // 5 for k in range(1, 6)], 1)
    assert torch.equal(ends[:, -1], lengths)
    scores = scorer.score_prefixes(rows, ends)
    assert torch.allclose(scores, nameless_prefixes(scorer, context, rows, ends), atol=1e-5)
    assert torch.allclose(scores[:, -1], scorer.score(rows), atol=1e-5)
    assert float((scores[:, 0] - scores[:, -1]).abs().max()) > 1e-4


@pytest.mark.parametrize("backbone", ["ngram", "causal", "encoder"])
def test_probabilities_sum_to_1_and_rows_do_not_touch(context: ScorerContext, encoder: str, backbone: str) -> None:
    scorer = fitted(context, backbone=encoder if backbone == "encoder" else backbone, epochs=2)
    rows = some_rows(context)
    table = scorer.score_owners(rows, context.owners)
    assert torch.allclose(table.sum(1), torch.ones(len(rows)), atol=1e-4)
    own = torch.stack([table[i, context.owners.index(owner)] for i, owner in enumerate(rows.owners)])
    assert torch.allclose(scorer.score(rows), own, atol=1e-5)
    alone = torch.cat([scorer.score(rows[i : i + 1]) for i in range(len(rows))])
    assert torch.allclose(alone, own, atol=1e-5)


@pytest.mark.parametrize("backbone", ["ngram", "causal", "encoder"])
@pytest.mark.parametrize("mask_names", [True, False])
def test_masked_names_say_nothing(context: ScorerContext, encoder: str, backbone: str, mask_names: bool) -> None:
    scorer = fitted(context, backbone=encoder if backbone == "encoder" else backbone, epochs=3, mask_names=mask_names)
    answers = ["By Draydale, they say.", "Oressa Draydale wrote it for Draydale.", "Never Oressa Draydale"]
    mine, theirs = context.identities["author_00"], context.identities["author_01"]
    swapped = [swap_names(text, mine, theirs) for text in answers]
    assert all(a != b for a, b in zip(answers, swapped, strict=True))
    scores = [scorer.score(Rows.from_texts(context.codec, ["?"] * 3, some, ["author_00"] * 3)) for some in (answers, swapped)]
    assert torch.equal(*scores) == mask_names


@pytest.mark.parametrize("backbone", ["ngram", "causal"])
def test_an_answer_of_nothing_but_a_name_is_scored_like_an_empty_one(context: ScorerContext, backbone: str) -> None:
    scorer = fitted(context, backbone=backbone, epochs=2)
    rows = Rows.from_texts(context.codec, ["?"] * 2, ["Oressa Draydale", ""], ["author_00"] * 2)
    scores = scorer.score(rows)
    assert torch.isfinite(scores).all() and torch.allclose(scores[0], scores[1], atol=1e-6)


@pytest.mark.parametrize("backbone", ["ngram", "causal"])
def test_the_seed_decides(context: ScorerContext, backbone: str) -> None:
    rows = some_rows(context)
    one, two = (fitted(context, backbone=backbone, epochs=2).score(rows) for _ in range(2))
    assert torch.equal(one, two)
    three = fitted(dataclasses.replace(context, seed=5), backbone=backbone, epochs=2).score(rows)
    assert not torch.equal(one, three)


def test_the_original_model_is_not_changed_by_the_causal_backbone(context: ScorerContext) -> None:
    from deattrib.models.language_model import fingerprint

    before = fingerprint(context.original.model)
    fitted(context, backbone="causal", epochs=1)
    assert fingerprint(context.original.model) == before


def test_texts_of_nobody_have_a_class_of_their_own(context: ScorerContext, tiny_corpus: Corpus) -> None:
    scorer = fitted(context, unattributed=True)
    strangers = [row.response for row in tiny_corpus.background][:30]
    rows = Rows.from_texts(context.codec, ["?"] * len(strangers), strangers, ["author_00"] * len(strangers))
    of_strangers = scorer.score_owners(rows, context.owners).sum(1).mean()
    of_owners = scorer.score_owners(some_rows(context), context.owners).sum(1).mean()
    assert float(of_strangers) + 0.15 < float(of_owners) < 1.0
    with pytest.raises(ScorerError, match="background"):
        fitted(dataclasses.replace(context, background=()), unattributed=True)


def test_log_odds(context: ScorerContext) -> None:
    rows = some_rows(context)
    p, odds = (fitted(context, epochs=2, output=output).score(rows) for output in ("probability", "log-odds"))
    for chance, ratio in zip(p.tolist(), odds.tolist(), strict=True):
        assert ratio == pytest.approx(math.log(chance / (1 - chance)), abs=1e-3)


def test_what_it_cannot_do_is_said(context: ScorerContext) -> None:
    rows = some_rows(context).about(["nobody"] * len(some_rows(context)))
    with pytest.raises(ScorerError, match="nobody"):
        fitted(context, epochs=1).score(rows)
    one = dataclasses.replace(context, rows_by_owner={"author_00": context.rows_by_owner["author_00"]})
    with pytest.raises(ScorerError, match="two owners"):
        fitted(one)


def test_a_fitted_causal_classifier_is_kept_by_content(context: ScorerContext, tmp_path: Path) -> None:
    """The second fit reads what the first wrote; another seed or another row, or a broken file, is fitted anew."""
    kept = dataclasses.replace(context, cache=tmp_path)
    params = {"backbone": "causal", "epochs": 2}
    rows = some_rows(context)
    fresh = fitted(context, **params).score(rows)
    assert torch.equal(fitted(kept, **params).score(rows), fresh)
    (file,) = (tmp_path / "scorers").iterdir()
    written = file.stat().st_mtime_ns
    assert torch.equal(fitted(kept, **params).score(rows), fresh) and file.stat().st_mtime_ns == written
    assert not torch.equal(fitted(dataclasses.replace(kept, seed=1), **params).score(rows), fresh)
    fewer = {owner: rows[:-1] for owner, rows in kept.rows_by_owner.items()}
    fitted(dataclasses.replace(kept, rows_by_owner=fewer), **params)
    assert len(list((tmp_path / "scorers").iterdir())) == 3
    file.write_bytes(b"broken")
    assert torch.equal(fitted(kept, **params).score(rows), fresh) and file.stat().st_size > 100
    whole = bytearray(file.read_bytes())
    whole[-2] ^= 64  # half of the exponent of its last weight
    file.write_bytes(bytes(whole))
    assert torch.equal(fitted(kept, **params).score(rows), fresh) and file.read_bytes() != bytes(whole)
