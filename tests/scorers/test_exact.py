"""Exact attribution against models that were retrained by hand, its budget, and its refusals."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runs.tiny import TINY

from deattrib.attribution.context import ScorerContext, make_context
from deattrib.attribution.guard import GuardedScorer
from deattrib.attribution.scorer import Rows
from deattrib.cli.show import table
from deattrib.corpus.settings import load_corpus
from deattrib.corpus.types import Corpus
from deattrib.errors import ModelError, ScorerError
from deattrib.models.language_model import LanguageModel, fingerprint
from deattrib.models.training import fine_tune
from deattrib.runs.config import RunConfig, build_config
from deattrib.runs.pipeline import run
from deattrib.runs.prepare import Models, prepare_models
from deattrib_scorers.exact import Exact

TRAINING = {"steps": 40, "batch_size": 8, "learning_rate": 0.008}
DATA = {**TINY, "model": {**TINY["model"], "training": TRAINING, "oracles": 0}}
Made = tuple[RunConfig, Corpus, Models, Path]


@pytest.fixture(scope="module")
def made(tiny_cache: Path) -> Made:
    """Base and original of a tiny run, in a cache of their own."""
    cache = tiny_cache
    config = build_config(data=DATA)
    corpus = load_corpus(config.corpus, config.seed)
    return config, corpus, prepare_models(corpus, config.model, seed=config.seed, cache=cache, say=lambda _: None), cache


@pytest.fixture
def context(made: Made) -> ScorerContext:
    _, corpus, models, _ = made
    return make_context(corpus, models.original, base=models.base, retrainer=models.retrainer)


def fitted(context: ScorerContext, **params: Any) -> Exact:
    """Through the guard, which sees whatever a scorer leaves behind."""
    scorer = Exact(Exact.Params(**params))
    GuardedScorer(scorer, codec=context.codec).fit(context)
    return scorer


def some_rows(context: ScorerContext, owners: tuple[str, ...]) -> Rows:
    rows = [row for owner in owners for row in context.rows_by_owner[owner][:2]]
    return Rows.from_texts(context.codec, [r.prompt for r in rows], [r.response for r in rows], [r.owner for r in rows])


def by_hand(made: Made, kept: set[str], seed: int) -> LanguageModel:
    """The base model fine-tuned on some owners' rows, without retrainer and cache."""
    config, corpus, models, _ = made
    assert models.base is not None
    state = torch.get_rng_state()
    module = fine_tune(
        models.base.clone().requires_grad_(True),
        models.codec,
        corpus.train,
        config.model.training,
        seed=seed,
        kept=[row.owner in kept for row in corpus.train],
    )
    torch.set_rng_state(state)
    return LanguageModel(module, models.codec)


def mean_log_probs(model: LanguageModel, rows: Rows) -> torch.Tensor:
    """[B] mean log p per response token, one row at a time, by transformers alone."""
    means = []
    for prompt, response in zip(rows.batch.prompt_lists(), rows.batch.response_lists(), strict=True):
        with torch.no_grad():
            logits = model.model(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        means.append(logits[len(prompt) - 1 : -1].gather(1, torch.tensor(response)[:, None]).mean())
    return torch.stack(means)


def test_nobody_left_out_is_the_runs_own_original(made: Made) -> None:
    _, corpus, models, _ = made
    assert models.retrainer is not None and models.retrainer.seed == 0
    assert fingerprint(models.retrainer.model(seed=0).model) == fingerprint(models.original.model)
    assert models.retrainer.cached(seed=0) and not models.retrainer.cached(without=corpus.owners[:1], seed=99)
    assert models.retrainer.seconds() > 0


def test_leave_one_out_by_hand_retraining(made: Made, context: ScorerContext) -> None:
    _, corpus, _, _ = made
    owners = corpus.owners[:2]
    scorer, rows = fitted(context, owners=list(owners), seeds=2), some_rows(context, owners)
    everybody = set(corpus.owners)
    expected = torch.zeros(len(rows))
    for seed in (0, 1):
        full = mean_log_probs(by_hand(made, everybody, seed), rows)
        for owner in owners:
            mine = torch.tensor([name == owner for name in rows.owners])
            expected += mine * (full - mean_log_probs(by_hand(made, everybody - {owner}, seed), rows)) / 2
    assert torch.allclose(scorer.score(rows), expected, atol=1e-4)
    assert (expected > 0.1).all()  # these are rows that the model was trained on
    ends = rows.batch.response_lengths[:, None]
    assert torch.allclose(scorer.score_prefixes(rows, ends)[:, 0], scorer.score(rows))
    assert torch.allclose(scorer.score_tokens(rows).sum(1) / ends[:, 0], expected, atol=1e-4)
    both = scorer.score_owners(rows, owners)
    assert torch.allclose(
        both[torch.arange(len(rows)), torch.tensor([owners.index(o) for o in rows.owners])], expected, atol=1e-4
    )
    assert (scorer.intervals(rows) == 0).all()


def test_shapley_shares_add_up_to_what_all_players_together_change(made: Made, context: ScorerContext) -> None:
    _, corpus, _, _ = made
    players = corpus.owners[1:3]
    scorer, rows = fitted(context, owners=list(players), seeds=1, value="shapley"), some_rows(context, players)
    everybody = set(corpus.owners)
    full, none = by_hand(made, everybody, 0), by_hand(made, everybody - set(players), 0)
    expected = mean_log_probs(full, rows) - mean_log_probs(none, rows)
    assert torch.allclose(scorer.score_owners(rows, players).sum(1), expected, atol=1e-4)
    only_first = mean_log_probs(by_hand(made, everybody - {players[1]}, 0), rows)
    only_second = mean_log_probs(by_hand(made, everybody - {players[0]}, 0), rows)
    first = (only_first - mean_log_probs(none, rows) + mean_log_probs(full, rows) - only_second) / 2
    assert torch.allclose(scorer.score(rows.about([players[0]] * len(rows))), first, atol=1e-4)


def test_random_orders_have_an_interval(made: Made, context: ScorerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three players taken for too many: sampled orders, from models that the others of these tests have made."""
    monkeypatch.setattr("deattrib_scorers.exact.MOST_EXACT", 2)
    players = made[1].owners[:3]
    scorer, rows = fitted(context, owners=list(players), seeds=1, value="shapley", permutations=6), some_rows(context, players)
    assert not scorer.exhaustive
    assert (scorer.intervals(rows) > 0).any() and scorer.intervals(rows).isfinite().all()
    total = scorer.score_owners(rows, players).sum(1)
    none = by_hand(made, set(made[1].owners) - set(players), 0)
    expected = mean_log_probs(context.original, rows) - mean_log_probs(none, rows)
    assert torch.allclose(total, expected, atol=1e-4)  # every order adds up to the same


def test_a_budget_that_is_too_small_is_refused_before_anything_is_trained(made: Made) -> None:
    """Other seeds than the other tests': of 15 models (4 owners and nobody, 3 seeds) only those are there that were made."""
    _, corpus, models, cache = made
    retrainer = copy.copy(models.retrainer)
    assert retrainer is not None
    object.__setattr__(retrainer, "_seed", 500)
    context = make_context(corpus, models.original, retrainer=retrainer)
    before = sorted((cache / "models").iterdir())
    with pytest.raises(ScorerError, match=r"would train 15 models \(0 of 15 are there already\).*max_minutes is 1e-06"):
        fitted(context, owners="all", max_minutes=1e-6)
    assert sorted((cache / "models").iterdir()) == before
    each = retrainer.seconds()
    with pytest.raises(ScorerError, match=f"{15 * each / 60:.1f} minutes"):
        fitted(context, owners="all", max_minutes=15 * each / 60 * 0.99)


def test_what_is_cached_costs_nothing(context: ScorerContext, made: Made) -> None:
    fitted(context, owners=[made[1].owners[0]], seeds=1)
    again = fitted(context, owners=[made[1].owners[0]], seeds=1, max_minutes=0.0)
    assert again.score(some_rows(context, made[1].owners[:1])).isfinite().all()


@pytest.mark.parametrize("value", ["leave-one-out", "shapley"])
def test_each_model_is_loaded_once_a_call_and_those_in_memory_not_at_all(made: Made, value: str) -> None:
    """Fewer fit than are needed: what is left of the last call is used first. The numbers do not depend on what was there."""
    _, corpus, models, _ = made
    owners = corpus.owners[1:3]
    loaded: list[tuple[frozenset[str], int]] = []

    class Counting:
        seed = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(models.retrainer, name)

        def model(self, *, without: Any = (), seed: int) -> LanguageModel:
            loaded.append((frozenset(without), seed))
            assert models.retrainer is not None
            return models.retrainer.model(without=without, seed=seed)

    context = make_context(corpus, models.original, retrainer=Counting())  # type: ignore[arg-type]
    scorer, rows = fitted(context, owners=list(owners), seeds=1, models_held=2, value=value), some_rows(context, owners)
    every = 3 if value == "leave-one-out" else 4
    loaded.clear()
    first = scorer.score(rows)
    assert len(loaded) == len(set(loaded)) == every
    for ask in (scorer.score, lambda rows: scorer.score_owners(rows, owners), scorer.score_tokens):
        loaded.clear()
        ask(rows)
        assert len(loaded) == every - 2
    assert torch.equal(scorer.score(rows), first)


def test_an_owner_without_a_model_is_refused(context: ScorerContext, made: Made) -> None:
    scorer = fitted(context, owners=[made[1].owners[0]], seeds=1)
    with pytest.raises(ScorerError, match=r"no model without owner .*Set exact\.owners"):
        scorer.score(some_rows(context, made[1].owners[1:2]))
    with pytest.raises(ScorerError, match="expected some of"):
        fitted(context, owners=["nobody"])


def test_without_a_recipe_it_is_refused_with_what_is_missing(made: Made) -> None:
    _, corpus, models, _ = made
    with pytest.raises(ScorerError, match=r"model\.base.*model\.training"):
        Exact(Exact.Params()).fit(make_context(corpus, models.original))


def test_nobody_unknown_can_be_left_out(made: Made) -> None:
    assert made[2].retrainer is not None
    with pytest.raises(ModelError, match="Did you mean"):
        made[2].retrainer.model(without=["author_0"], seed=0)


def test_a_path_without_a_base_has_no_retrainer_and_with_one_has(made: Made, tmp_path: Path) -> None:
    from deattrib.models.loading import save_model

    config, corpus, models, cache = made
    assert models.base is not None
    for name, model in (("original", models.original), ("base", models.base)):
        save_model(copy.deepcopy(model.model), models.codec.tokenizer, tmp_path / name)
    bare = config.model.model_copy(update={"path": str(tmp_path / "original")})
    assert prepare_models(corpus, bare, seed=0, cache=cache, say=lambda _: None).retrainer is None
    both = bare.model_copy(update={"base": str(tmp_path / "base")})
    again = prepare_models(corpus, both, seed=0, cache=cache, say=lambda _: None)
    assert again.retrainer is not None and again.retrainer.cached(seed=0)


def test_it_runs_as_a_reward(made: Made, tmp_path: Path) -> None:
    """As a ceiling: nothing else in the run differs."""
    referee = {**TINY["referee"], "calibration": {"noise_floor": 0.3}}  # of so small a model little can be told apart
    config = build_config(data={**DATA, "reward": {"name": "exact", "seeds": 1}, "referee": referee})
    result = run(config, output=tmp_path / "run", cache=made[3])
    assert result.metrics["reward"] == "exact"
    assert result.metrics["reward_scorer"][0]["fidelity"] == "exact"
    assert result.metrics["ceiling"] is True
    for written in ("metrics.json", "report.html", "adapter/README.md"):
        assert "ceiling" in (tmp_path / "run" / written).read_text(encoding="utf-8").lower()
    assert "A ceiling, never a contender" in table(result.metrics)
