"""The wall around scorers: what comes back from one, wrong or right, by prefix, token and owner."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.attribution.wall import RESPONSES, Letters, guarded, scorer_that
from torch import Tensor, nn

from deattrib import Corpus, GuardedScorer, Rows, Scorer, ScorerContext, ScorerError
from deattrib.attribution.context import make_context
from deattrib.models.language_model import Codec, LanguageModel


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
        ScorerError,
        match=r"it raised KeyError: 'ada' \(.*test_guard\.py:\d+\).*in a batch of 3 rows, the first: owner 'ada', prompt 'Who",
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
