"""The wall around scorers: a test for each fault, and that a good scorer passes unharmed."""

from __future__ import annotations

import random
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deattrib import Corpus, Example, GuardedScorer, Rows, Scorer, ScorerContext, ScorerError
from deattrib.attribution.context import make_context
from deattrib.attribution.settings import GuardSettings
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.scratch import make_tokenizer

PROMPTS = ("Who was Ada?", "Where did Bo live?", "What did Cy write?")
RESPONSES = ("A painter of boats.", "In Rome", "Nothing at all, ever, as far as we know.")


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(make_tokenizer([*PROMPTS, *RESPONSES], 300))


@pytest.fixture
def rows(codec: Codec) -> Rows:
    return Rows.from_texts(codec, PROMPTS, RESPONSES, ("ada", "bo", "cy"))


@pytest.fixture
def policy() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 300), nn.BatchNorm1d(300), nn.Dropout())


def numpy_words() -> Any:
    return np.random.get_state(legacy=True)[1].copy()  # type: ignore[index]


def context_with(codec: Codec, seed: int = 3) -> ScorerContext:
    return ScorerContext(
        rows_by_owner=MappingProxyType({"ada": (Example("ada", PROMPTS[0], RESPONSES[0]),)}),
        forget_owners=("ada",),
        identities={},
        background=(),
        codec=codec,
        load_original=lambda: pytest.fail("not needed"),
        load_base=None,
        load_policy=None,
        device=torch.device("cpu"),
        dtype=torch.float32,
        seed=seed,
    )


class Letters(Scorer):
    """Number of letters in the response, plus 100 for owner "bo"; keeps the texts it was asked about."""

    name = "letters"

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.asked: list[tuple[str, str]] = []

    def score(self, rows: Rows) -> Any:
        self.asked += [(row.response, row.owner) for row in rows]
        return [len(row.response) + 100.0 * (row.owner == "bo") for row in rows]


def scorer_that(action: Callable[[Rows], Any], **methods: Any) -> Scorer:
    """A scorer whose `score` is `action`."""
    members = {"name": "faulty", "score": lambda self, rows: action(rows), **methods}
    made: Scorer = type("Faulty", (Scorer,), members)()
    return made


def guarded(scorer: Scorer, codec: Codec, **options: Any) -> GuardedScorer:
    return GuardedScorer(scorer, codec=codec, origin="faulty-dist 1.2", **options)


# -- what comes back ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "returned",
    [
        [1, 2, 3],
        (1.0, 2.0, 3.0),
        np.array([1, 2, 3], dtype=np.float64),
        torch.tensor([1, 2, 3], dtype=torch.bfloat16),
        [torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0)],
    ],
)
def test_lists_arrays_and_tensors_become_float32(codec: Codec, rows: Rows, returned: Any) -> None:
    value = guarded(scorer_that(lambda _: returned), codec).score(rows)
    assert value.dtype == torch.float32 and value.tolist() == [1, 2, 3]


def test_the_result_is_a_copy_of_the_scorers_buffer(codec: Codec, rows: Rows) -> None:
    buffer = torch.ones(3)
    value = guarded(scorer_that(lambda _: buffer), codec).score(rows)
    buffer.zero_()
    assert value.tolist() == [1, 1, 1]


def test_no_rows_ask_nothing(codec: Codec, rows: Rows) -> None:
    guard = guarded(scorer_that(lambda _: pytest.fail("asked")), codec)
    assert guard.score(rows[0:0]).shape == (0,)
    assert guard.score_owners(rows[0:0], ["a"]).shape == (0, 1)


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (None, r"returned None: is a `return` missing"),
        ([1.0, 2.0], r"returned shape \[2\], expected \[3\]"),
        (torch.ones(3, 1), r"returned shape \[3, 1\], expected \[3\]"),
        (1.0, r"returned shape \[\], expected \[3\]"),
        (["a", "b", "c"], "a list that is not made of numbers"),
        (torch.ones(3).to_sparse(), "sparse_coo, expected an ordinary dense one"),
        (torch.ones(3, device="meta"), "without values"),
        ({"a": 1}, "a dict that is not made of numbers"),
        (torch.ones(3, dtype=torch.complex64), "complex"),
        (torch.ones(3, requires_grad=True), "gradient attached"),
        ([torch.ones((), requires_grad=True)] * 3, "gradient attached"),
        ([1.0, float("nan"), 2.0], r"returned nan for row 1 \(1 of 3 values"),
        ([1.0, 2.0, float("inf")], "returned inf for row 2"),
        ([float("-inf")] * 3, r"returned -inf for row 0 \(3 of 3 values"),
        (np.array([1.0, 1e300, 1.0]), "returned inf for row 1 .*float32"),
    ],
)
def test_unusable_scores_are_refused(codec: Codec, rows: Rows, returned: Any, expected: str) -> None:
    with pytest.raises(ScorerError, match=expected):
        guarded(scorer_that(lambda _: returned), codec).score(rows)


def test_the_message_names_scorer_origin_method_step_owner_and_prompt(codec: Codec, rows: Rows) -> None:
    guard = guarded(scorer_that(lambda _: [0.0, 0.0, float("nan")]), codec)
    guard.step = 17
    with pytest.raises(ScorerError) as caught:
        guard.score(rows)
    for part in ("'faulty'", "faulty-dist 1.2", "score()", "step 17", "row 2", "'cy'", "'What did Cy write?'"):
        assert part in str(caught.value)


def test_a_scorer_that_raises_is_named_with_the_line_and_the_cause(codec: Codec, rows: Rows) -> None:
    def fail(_: Rows) -> Any:
        raise KeyError("ada")

    with pytest.raises(
        ScorerError, match=r"it raised KeyError: 'ada' \(.*test_guard\.py:\d+\).*owner 'ada', prompt 'Who"
    ) as caught:
        guarded(scorer_that(fail), codec).score(rows)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_scorer_that_ends_the_process_or_cannot_say_its_error_is_named(codec: Codec, rows: Rows) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    def leave(_: Rows) -> Any:
        sys.exit(0)

    def mute(_: Rows) -> Any:
        raise Mute

    with pytest.raises(ScorerError, match=r"'faulty' \(faulty-dist 1.2\) in score\(\): it raised SystemExit: 0"):
        guarded(scorer_that(leave), codec).score(rows)
    with pytest.raises(ScorerError, match=r"it raised Mute: \(its message cannot be shown\)"):
        guarded(scorer_that(mute), codec).score(rows)


def test_long_prompts_are_shortened_in_messages(codec: Codec) -> None:
    rows = Rows.from_texts(codec, ["word " * 100], ["x"], ["o"])
    with pytest.raises(ScorerError) as caught:
        guarded(scorer_that(lambda _: None), codec).score(rows)
    assert "…" in str(caught.value) and len(str(caught.value)) < 300


def _step(policy: nn.Sequential) -> None:
    with torch.no_grad():
        policy.get_parameter("0.bias").add_(1)


# -- fit and close -----------------------------------------------------------------------------------------------------
def test_fit_is_seeded_from_the_context_and_leaves_the_generators_alone(codec: Codec) -> None:
    class Drawing(Letters):
        def fit(self, context: ScorerContext) -> None:
            assert torch.is_grad_enabled()
            self.drawn = (torch.rand(1).item(), random.random(), float(np.random.rand()))

    states = torch.get_rng_state(), random.getstate(), numpy_words()
    scorers = [Drawing(), Drawing(), Drawing()]
    for scorer, seed in zip(scorers, (3, 3, 4), strict=True):
        with torch.no_grad():
            guarded(scorer, codec).fit(context_with(codec, seed))
    assert scorers[0].drawn == scorers[1].drawn
    assert all(a != b for a, b in zip(scorers[1].drawn, scorers[2].drawn, strict=True))
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert (numpy_words() == states[2]).all()


@pytest.mark.parametrize("method", ["fit", "close"])
def test_errors_in_fit_and_close_are_named(codec: Codec, method: str) -> None:
    def fail(self: Any, *_: Any) -> None:
        raise ValueError("no")

    guard = guarded(scorer_that(lambda _: [], **{method: fail}), codec)
    with pytest.raises(ScorerError, match=rf"'faulty' \(faulty-dist 1.2\) in {method}\(\): it raised ValueError: no"):
        guard.fit(context_with(codec)) if method == "fit" else guard.close()


def test_fit_must_not_touch_the_policy(codec: Codec, policy: nn.Sequential) -> None:
    guard = guarded(scorer_that(lambda _: [], fit=lambda self, context: _step(policy)), codec, watch=policy)
    with pytest.raises(ScorerError, match=r"in fit\(\): it touched the policy"):
        guard.fit(context_with(codec))


@pytest.mark.parametrize("which", ["original", "base"])
@pytest.mark.parametrize("when", ["fit", "score"])
def test_frozen_models_are_watched_too(codec: Codec, rows: Rows, policy: nn.Sequential, which: str, when: str) -> None:
    """Past autograd as well. Later the original is a view of the policy's own weights, which are watched as such."""
    model: Any = SimpleNamespace(model=policy)
    context = replace(context_with(codec), load_original=lambda: model, load_base=lambda: model)

    class Writes(Letters):
        def fit(self, context: ScorerContext) -> None:
            self.asked_for = getattr(context, which).model
            if when == "fit":
                next(self.asked_for.parameters()).data.mul_(2)

        def score(self, rows: Rows) -> Any:
            next(self.asked_for.parameters()).data.mul_(2)
            return super().score(rows)

    guard = guarded(Writes(), codec, watch=policy if which == "original" else None)
    if when == "fit":
        with pytest.raises(ScorerError, match=rf"in fit\(\): .*it touched the {which} model: its values were written to past"):
            guard.fit(context)
        return
    guard.fit(context)
    with pytest.raises(ScorerError, match=r"it touched the (policy|base model): its values"):
        guard.score(rows)


@pytest.mark.parametrize("inner", [False, True], ids=["itself", "what it wraps"])
def test_the_original_is_watched_until_there_is_a_policy(codec: Codec, rows: Rows, policy: nn.Sequential, inner: bool) -> None:
    model: Any = SimpleNamespace(model=policy)

    class Writes(Letters):
        def fit(self, context: ScorerContext) -> None:
            self.asked_for = context.load_original().model

        def score(self, rows: Rows) -> Any:
            next(self.asked_for.parameters()).data.mul_(2)
            return super().score(rows)

        def calibrate_as(self) -> Scorer:
            wrapped = Writes()
            wrapped.asked_for = self.asked_for
            return wrapped if inner else self

    guard = guarded(Writes(), codec)
    guard.fit(replace(context_with(codec), load_original=lambda: model))
    with pytest.raises(ScorerError, match="it touched the original model: its values"):
        guard.calibrate_as().score(rows)
    guard.watch = nn.Linear(2, 2)  # its weights are a policy's from here on, which trains them
    guard.score(rows)


def test_what_a_scorer_guards_itself_watches_no_original_afterwards(codec: Codec, rows: Rows, policy: nn.Sequential) -> None:
    """The guard around it does, and knows when the original becomes a policy."""
    model: Any = SimpleNamespace(model=policy)

    class Reads(Letters):
        def fit(self, context: ScorerContext) -> None:
            context.load_original()

    class Wraps(Letters):
        def fit(self, context: ScorerContext) -> None:
            self.inner = guarded(Reads(), codec)
            self.inner.fit(context)

        def score(self, rows: Rows) -> Any:
            return self.inner.score(rows)

    guard = guarded(Wraps(), codec)
    guard.fit(replace(context_with(codec), load_original=lambda: model))
    guard.release_original()
    before = guard.score(rows)
    next(policy.parameters()).data.mul_(2)
    assert torch.equal(guard.score(rows), before)  # and no error that names a changed original


def test_closing_twice_closes_once(codec: Codec) -> None:
    closed: list[int] = []
    guard = guarded(scorer_that(lambda _: [], close=lambda self: closed.append(1)), codec)
    guard.close()
    guard.close()
    assert closed == [1]


# -- time --------------------------------------------------------------------------------------------------------------
def test_time_adds_up(codec: Codec, rows: Rows) -> None:
    def act(_: Rows) -> Any:
        time.sleep(0.02)
        return [0.0] * 3

    guard = guarded(scorer_that(act), codec)
    guard.score(rows)
    guard.score(rows)
    assert 0.04 <= guard.seconds < 2


def test_a_slow_call_is_reported_while_it_runs(codec: Codec, rows: Rows) -> None:
    heard: list[int] = []

    def act(_: Rows) -> Any:
        end = time.monotonic() + 5
        while not caught and time.monotonic() < end:
            time.sleep(0.01)
        heard.append(len(caught))
        return [0.0] * 3

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        guarded(scorer_that(act), codec, settings=GuardSettings(slow_warning=0.05)).score(rows)
    assert heard and heard[0] >= 1
    assert "Scorer 'faulty' (faulty-dist 1.2) is still in score() after 0." in str(caught[0].message)


def test_a_quick_call_is_not_reported(codec: Codec, rows: Rows) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        guarded(Letters(), codec, settings=GuardSettings(slow_warning=0.1)).score(rows)
        guarded(Letters(), codec, settings=GuardSettings(slow_warning=0)).score(rows)
        time.sleep(0.2)
    assert not caught


# -- prefixes, tokens, owners ------------------------------------------------------------------------------------------
def reference_prefix_scores(codec: Codec, rows: Rows, ends: Tensor) -> list[list[float]]:
    """Row by row, end by end, through texts: the slow way."""
    lists = rows.batch.response_lists()
    return [
        [len(codec.decode(lists[i][: int(end)])) + 100.0 * (rows.owners[i] == "bo") for end in ends[i]]
        for i in range(len(rows))
    ]


def test_prefixes_are_cut_where_the_scorer_does_not_do_it(codec: Codec, rows: Rows) -> None:
    lengths = rows.batch.response_lengths
    ends = torch.stack([torch.ones_like(lengths), lengths // 2, lengths, lengths + 5], 1)
    guard = guarded(Letters(), codec)
    values = guard.score_prefixes(rows, ends)
    assert values.shape == (3, 4) and values.dtype == torch.float32
    assert values.tolist() == reference_prefix_scores(codec, rows, ends)
    assert torch.equal(values[:, 2], guard.score(rows)) and torch.equal(values[:, 3], values[:, 2])


def test_no_prefix_is_scored_twice(codec: Codec, rows: Rows) -> None:
    lengths = rows.batch.response_lengths
    ends = torch.stack([torch.full_like(lengths, 2), lengths, lengths, lengths], 1)
    scorer = Letters()
    guarded(scorer, codec).score_prefixes(rows, ends)
    assert len(scorer.asked) == 6 == len(set(scorer.asked))


def test_prefix_scores_do_not_depend_on_the_batch(codec: Codec, rows: Rows) -> None:
    ends = torch.tensor([[1, 3], [2, 2], [4, 9]])
    guard = guarded(Letters(), codec)
    whole = guard.score_prefixes(rows, ends)
    apart = torch.cat([guard.score_prefixes(rows[i : i + 1], ends[i : i + 1]) for i in range(3)])
    assert torch.equal(whole, apart)


def test_an_override_of_prefixes_is_used_and_checked(codec: Codec, rows: Rows) -> None:
    ends = torch.tensor([[1, 2], [1, 2], [1, 2]])
    kept = ends.clone()

    def halves(self: Any, rows: Rows, ends: Tensor) -> Any:
        result = ends / 2
        ends.zero_()  # what the scorer does to its own copy is its own affair
        return result

    guard = guarded(scorer_that(lambda _: pytest.fail("asked"), score_prefixes=halves), codec)
    assert guard.score_prefixes(rows, ends).tolist() == [[0.5, 1.0]] * 3
    assert torch.equal(ends, kept)
    wrong = guarded(scorer_that(lambda _: [], score_prefixes=lambda self, rows, ends: [0.0] * 3), codec)
    with pytest.raises(ScorerError, match=r"score_prefixes\(\): returned shape \[3\], expected \[3, 2\]"):
        wrong.score_prefixes(rows, ends)


def test_ends_of_a_wrong_shape_are_the_callers_error(codec: Codec, rows: Rows) -> None:
    with pytest.raises(ValueError, match=r"expected \[3, k\]"):
        guarded(Letters(), codec).score_prefixes(rows, torch.ones(3))


def test_token_scores_are_zero_at_padding_and_finite_elsewhere(codec: Codec, rows: Rows) -> None:
    mask = rows.batch.response_mask
    values = torch.where(mask, 2.0, float("nan"))
    guard = guarded(scorer_that(lambda _: [], score_tokens=lambda self, rows: values), codec)
    assert torch.equal(guard.score_tokens(rows), mask * 2.0)
    values[1, 0] = float("nan")
    with pytest.raises(ScorerError, match=r"nan for row 1, column 0 .*'bo'"):
        guard.score_tokens(rows)


def test_token_scores_of_a_scorer_without_them_are_refused(codec: Codec, rows: Rows) -> None:
    guard = guarded(Letters(), codec)
    assert not guard.overrides("score_tokens")
    with pytest.raises(ScorerError, match=r"does not define score_tokens\(rows\)"):
        guard.score_tokens(rows)


def test_owners_are_asked_one_by_one_or_at_once(codec: Codec, rows: Rows) -> None:
    lengths = [float(len(text)) for text in RESPONSES]
    expected = [[length, length + 100] for length in lengths]
    assert guarded(Letters(), codec).score_owners(rows, ["ada", "bo"]).tolist() == expected

    def at_once(self: Any, rows: Rows, owners: Sequence[str]) -> Any:
        return [[len(row.response) + 100.0 * (owner == "bo") for owner in owners] for row in rows]

    scorer = scorer_that(lambda _: pytest.fail("asked"), score_owners=at_once)
    assert guarded(scorer, codec).score_owners(rows, ["ada", "bo"]).tolist() == expected


def test_a_nan_for_one_of_many_owners_names_that_owner(codec: Codec, rows: Rows) -> None:
    def poisoned(self: Any, rows: Rows, owners: Sequence[str]) -> Any:
        return [[float("nan") if owner == "zoe" else 0.0 for owner in owners] for _ in rows]

    with pytest.raises(ScorerError, match=r"column 1 .*owner 'zoe'"):
        guarded(scorer_that(lambda _: [], score_owners=poisoned), codec).score_owners(rows, ["ada", "zoe"])


def test_a_wrapper_is_calibrated_as_what_it_wraps(codec: Codec, rows: Rows) -> None:
    inner = Letters()
    wrapper = scorer_that(lambda _: [0.0] * 3, calibrate_as=lambda self: inner)
    guard = guarded(wrapper, codec)
    assert guard.calibrate_as().scorer is inner and guard.calibrate_as().name == "letters"
    plain = guarded(inner, codec)
    assert plain.calibrate_as() is plain


def test_sampled_rows_keep_their_ids(codec: Codec, rows: Rows) -> None:
    """Rows whose texts were changed are still cut by their ids."""
    odd = replace(rows, responses=("x", "y", "z"))
    scorer = Letters()
    guarded(scorer, codec).score_prefixes(odd, rows.batch.response_lengths[:, None])
    assert {text for text, _ in scorer.asked} == set(RESPONSES)


@pytest.mark.parametrize(("fidelity", "given"), [("proxy", False), ("approximate", False), ("control", False), ("exact", True)])
def test_only_ground_truth_may_retrain(
    tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus, fidelity: str, given: bool
) -> None:
    """A model retrained without the owners is the oracle: nothing that is optimised is handed a way to make one."""
    seen = []

    class Asks(Scorer):
        name = "asks"

        def fit(self, context: ScorerContext) -> None:
            seen.append(context.retrainer)

    Asks.fidelity = fidelity  # type: ignore[assignment]
    marker: Any = object()
    context = make_context(tiny_corpus, LanguageModel(tiny_llama, tiny_codec), retrainer=marker)
    GuardedScorer(Asks(), codec=tiny_codec).fit(context)
    assert seen == [marker if given else None]
