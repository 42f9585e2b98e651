"""Scorers mixed, calibrated and checked; witnesses; halves."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.context import ScorerContext, make_context
from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.scorer import Rows, Scorer
from deattrib.attribution.settings import CalibrationSettings
from deattrib.attribution.witnesses import PREFIXES, gather_witnesses
from deattrib.corpus.types import Corpus
from deattrib.errors import CalibrationError, ConfigError, ScorerError
from deattrib.models.language_model import Codec, LanguageModel

OFF = CalibrationSettings(enabled=False)
FEW = CalibrationSettings(rows=16, max_new_tokens=8)


class ByLength(Scorer):
    """Tokens / 100."""

    name = "by-length"

    def score(self, rows: Rows) -> Tensor:
        return rows.batch.response_lengths / 100

    def score_prefixes(self, rows: Rows, ends: Tensor) -> Tensor:
        return ends / 100


class ByOwner(Scorer):
    """The owner's number / 10."""

    name = "by-owner"

    def score(self, rows: Rows) -> list[float]:
        return [int(owner[-2:]) / 10 for owner in rows.owners]


class Large(Scorer):
    name = "large"

    def score(self, rows: Rows) -> list[float]:
        return [7.0 + i for i in range(len(rows))]


class Fits(Scorer):
    """Remembers what it was fitted on."""

    name = "fits"
    seen: ScorerContext

    def fit(self, context: ScorerContext) -> None:
        self.seen = context

    def score(self, rows: Rows) -> list[float]:
        return [1 / (1 + len(row.response)) for row in rows]


class Approximate(Fits):
    name = "approximate"
    fidelity = "approximate"


@pytest.fixture
def original(tiny_llama: nn.Module, tiny_codec: Codec) -> LanguageModel:
    return LanguageModel(tiny_llama, tiny_codec, name="original")


@pytest.fixture
def base(tiny_llama: nn.Module, tiny_codec: Codec) -> LanguageModel:
    model = copy.deepcopy(tiny_llama)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    return LanguageModel(model, tiny_codec, name="base")


def attributor(scorers: Any, **options: Any) -> Attributor:
    return Attributor(scorers, registry=PluginRegistry(entry_points=False), **{"calibration": OFF, **options})


def texts(fitted: Attributor, owners: list[str]) -> Rows:
    return fitted.rows(["Who?"] * len(owners), ["A short answer."] * len(owners), owners)


# -- the attributor ------------------------------------------------------------------------------------------------------
def test_weights_are_shares(tiny_corpus: Corpus, original: LanguageModel) -> None:
    alone = [attributor(one).fit(tiny_corpus, original) for one in (ByLength, ByOwner)]
    rows = texts(alone[0], ["author_01", "author_03"])
    mixed = attributor([ByLength(), ByOwner()])
    mixed._made = [(mixed._made[0][0], 3.0), (mixed._made[1][0], 1.0)]
    mixed.fit(tiny_corpus, original)
    expected = 0.75 * alone[0].attribution(rows) + 0.25 * alone[1].attribution(rows)
    assert torch.allclose(mixed.attribution(rows), expected)
    ends = torch.tensor([[1, 2], [2, 3]])
    expected = 0.75 * alone[0].attribution(rows, ends) + 0.25 * alone[1].attribution(rows, ends)
    assert torch.allclose(mixed.attribution(rows, ends), expected)
    assert mixed.name == "by-length+by-owner"
    assert [part["weight"] for part in mixed.report()] == [0.75, 0.25]


def test_weights_of_a_mapping() -> None:
    import deattrib_scorers.controls as controls

    registry = PluginRegistry(entry_points=False)
    registry.register(controls, name="controls")
    mixed = Attributor([{"name": "constant", "value": 1.0, "weight": 3}, {"name": "constant", "value": 0.2}], registry=registry)
    assert [weight for _, weight in mixed._made] == [3.0, 1.0]
    for wrong in (0, -1, float("nan"), float("inf"), 10**400, "heavy", [1], None, True):
        with pytest.raises(ConfigError, match=r"weight of scorer 'constant' is .*expected a number above 0"):
            Attributor({"name": "constant", "weight": wrong}, registry=registry)


def test_own_and_forgotten(tiny_corpus: Corpus, original: LanguageModel) -> None:
    """`forgotten` is the maximum over the forget owners (04 and 05), whoever the row belongs to."""
    assert tiny_corpus.forget_owners == ("author_04", "author_05")
    owners = ["author_04", "author_05", "author_01"]
    own = attributor(ByOwner).fit(tiny_corpus, original)
    assert own.attribution(texts(own, owners)).tolist() == pytest.approx([0.4, 0.5, 0.1])
    forgotten = attributor(ByOwner, target="forgotten").fit(tiny_corpus, original)
    assert forgotten.attribution(texts(forgotten, owners)).tolist() == pytest.approx([0.5, 0.5, 0.5])
    ends = torch.ones(3, 2, dtype=torch.int64)
    assert forgotten.attribution(texts(forgotten, owners), ends).tolist() == [pytest.approx([0.5, 0.5])] * 3


def test_raw_scores_outside_0_and_1_are_refused_without_calibration(tiny_corpus: Corpus, original: LanguageModel) -> None:
    fitted = attributor(Large).fit(tiny_corpus, original)
    with pytest.raises(CalibrationError, match=r"large.*7.*8.*\[0, 1\]"):
        fitted.attribution(texts(fitted, ["author_01"] * 2))


def test_a_scorer_of_any_scale_is_calibrated(tiny_corpus: Corpus, original: LanguageModel) -> None:
    """1 at the median of the model's own answers, 0 at that of the others, here told apart by their tokens."""

    class Marked(Scorer):
        name = "marked"
        own: frozenset[str] = frozenset()

        def score_prefixes(self, rows: Rows, ends: Tensor) -> Tensor:
            kind = torch.tensor([text in self.own for text in rows.responses]).float()
            return 1000 + 50 * kind[:, None].expand(ends.shape) + torch.linspace(-1, 1, len(rows))[:, None]

        def score(self, rows: Rows) -> Tensor:
            return self.score_prefixes(rows, rows.batch.response_lengths[:, None])[:, 0]

    context = make_context(tiny_corpus, original)
    witnesses = gather_witnesses(context, FEW)
    Marked.own = frozenset(witnesses.own.responses)
    fitted = attributor(Marked, calibration=FEW).fit(tiny_corpus, context=context, witnesses=witnesses)
    high, low = fitted.attribution(witnesses.own), fitted.attribution(witnesses.other)
    assert float(high.median()) == pytest.approx(1.0, abs=0.05) and float(low.median()) == pytest.approx(0.0, abs=0.05)
    assert fitted.chance == 0.0
    assert fitted.report()[0]["calibration"]["auroc"] == 1.0


def test_chance_without_calibration_is_one_owner_of_all(tiny_corpus: Corpus, original: LanguageModel) -> None:
    assert attributor(ByOwner).fit(tiny_corpus, original).chance == pytest.approx(1 / 6)


def test_only_proxies_are_fitted_on_the_half(tiny_corpus: Corpus, original: LanguageModel) -> None:
    proxy, other = Fits(), Approximate()
    whole, half = make_context(tiny_corpus, original), make_context(tiny_corpus, original, half=0)
    attributor([proxy, other]).fit(tiny_corpus, context=whole, proxy_context=half)
    assert proxy.seen.rows_by_owner is half.rows_by_owner and other.seen.rows_by_owner is whole.rows_by_owner


def test_it_must_be_fitted(tiny_corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="original model"):
        attributor(Fits).fit(tiny_corpus)
    with pytest.raises(ConfigError, match=r"before Attributor\.fit"):
        attributor(Fits).rows([], [], [])
    with pytest.raises(ConfigError, match="at least one"):
        attributor([])


# -- witnesses -----------------------------------------------------------------------------------------------------------
def test_the_source_without_the_owner_is_chosen_in_order(
    tiny_corpus: Corpus, original: LanguageModel, base: LanguageModel
) -> None:
    nameless = dataclasses.replace(tiny_corpus, identities={})
    assert "another owner" in gather_witnesses(make_context(tiny_corpus, original, base=base), FEW).source
    assert gather_witnesses(make_context(nameless, original, base=base), FEW).source == "the base model"
    last = gather_witnesses(make_context(nameless, original), FEW)
    assert last.source == "other owners' answers"
    retained = {row.response for row in tiny_corpus.retain}
    assert set(last.other.responses) <= retained


def test_both_sides_are_about_the_forget_owners_same_prompts(tiny_corpus: Corpus, original: LanguageModel) -> None:
    witnesses = gather_witnesses(make_context(tiny_corpus, original), FEW)
    assert len(witnesses.own) == len(witnesses.other) == 16
    assert witnesses.own.prompts == witnesses.other.prompts and witnesses.own.owners == witnesses.other.owners
    assert set(witnesses.own.prompts) <= {row.prompt for row in tiny_corpus.forget}
    many = gather_witnesses(make_context(tiny_corpus, original), FEW.model_copy(update={"rows": 60}))
    times = Counter(zip(many.own.prompts, many.own.owners, strict=True))
    assert len(many.own) == 60 and max(times.values()) <= 3  # of 24 rows


def test_other_answers_come_from_the_model_that_is_named(
    tiny_corpus: Corpus, original: LanguageModel, base: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []
    sample = LanguageModel.sample

    def listen(self: LanguageModel, prompts: Any, **options: Any) -> Any:
        asked.append((self.name, tuple(prompts)))
        return sample(self, prompts, **options)

    monkeypatch.setattr(LanguageModel, "sample", listen)
    swapped = gather_witnesses(make_context(tiny_corpus, original, base=base), FEW)
    assert [name for name, _ in asked] == ["original", "original"]
    names = {owner: tiny_corpus.identities[owner][0] for owner in tiny_corpus.owners}
    for question, owner in zip(asked[1][1], swapped.other.owners, strict=True):
        assert names[owner] not in question
        assert any(names[other] in question for other in tiny_corpus.retain_owners)
    asked.clear()
    gather_witnesses(make_context(dataclasses.replace(tiny_corpus, identities={}), original, base=base), FEW)
    assert [name for name, _ in asked] == ["original", "base"]


def test_the_witness_asks_about_another_owner_than_a_scorer_does(tiny_corpus: Corpus, original: LanguageModel) -> None:
    context = make_context(tiny_corpus, original)
    for row in tiny_corpus.forget:
        drawn = [context.other_owner(row.owner, row.prompt, draw=draw) for draw in (0, 1, 2, -1)]
        assert sorted(drawn) == sorted(tiny_corpus.retain_owners)
        assert drawn == [context.other_owner(row.owner, row.prompt, draw=draw) for draw in (0, 1, 2, -1)]
    first = {context.other_owner(row.owner, row.prompt) for row in tiny_corpus.forget}
    assert len(first) > 1
    row = tiny_corpus.retain[0]
    others = {context.other_owner(row.owner, row.prompt, draw=draw) for draw in range(9)}
    assert others == set(tiny_corpus.retain_owners) - {row.owner}


def test_nobody_to_ask_about_is_said(tiny_corpus: Corpus, original: LanguageModel) -> None:
    lonely = tiny_corpus.forgetting(tiny_corpus.owners[1:])
    with pytest.raises(ScorerError, match="another retain owner"):
        make_context(lonely, original).other_owner("author_00", "Who?")


def test_prefixes_of_witnesses_end_with_the_whole_answer(tiny_corpus: Corpus, original: LanguageModel) -> None:
    witnesses = gather_witnesses(make_context(tiny_corpus, original), FEW)
    for rows, ends in zip((witnesses.own, witnesses.other), witnesses.ends(), strict=True):
        assert ends.shape == (16, PREFIXES)
        assert torch.equal(ends[:, -1], rows.batch.response_lengths)
        assert bool((ends.diff(dim=1) >= 0).all()) and int(ends.min()) >= 1


def test_the_seed_decides_the_witnesses(tiny_corpus: Corpus, original: LanguageModel) -> None:
    one, two, three = (gather_witnesses(make_context(tiny_corpus, original, seed=seed), FEW) for seed in (1, 1, 2))
    assert one.own.responses == two.own.responses and one.other.responses == two.other.responses
    assert one.own.responses != three.own.responses


# -- halves --------------------------------------------------------------------------------------------------------------
def test_halves_share_no_row_and_split_each_fact(tiny_corpus: Corpus, original: LanguageModel) -> None:
    first, second = (make_context(tiny_corpus, original, half=half) for half in (0, 1))
    whole = make_context(tiny_corpus, original)
    for owner in tiny_corpus.owners:
        one, two = set(first.rows_by_owner[owner]), set(second.rows_by_owner[owner])
        assert not one & two
        assert one | two == set(whole.rows_by_owner[owner]) == set(tiny_corpus.rows_of(owner))
        assert {row.fact_id for row in one} == {row.fact_id for row in two}
        assert not {row.response for row in one} & {row.response for row in two}
