"""Faulty scorers beyond a wrong return: ones that hang, that are now and then not finite, constant, or never the same twice."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from deattrib import Attributor, Corpus, GuardedScorer, LanguageModel, PluginRegistry, Rows, Scorer, ScorerError
from deattrib.attribution.calibration import fit_calibration
from deattrib.attribution.returned import UnusableError, mask_nonfinite
from deattrib.attribution.settings import CalibrationSettings, GuardSettings
from deattrib.attribution.watchdog import Watchdog
from deattrib.errors import CalibrationError
from deattrib.models.language_model import Codec

TEXTS = ["A painter of boats.", "In Rome", "Nothing at all, ever."] * 4
NAN = float("nan")


@pytest.fixture
def rows(tiny_codec: Codec) -> Rows:
    return Rows.from_texts(tiny_codec, ["Who?"] * 12, TEXTS, [f"owner {number}" for number in range(12)])


def guarded(action: Callable[[Rows], Any], codec: Codec, **settings: Any) -> GuardedScorer:
    made: Scorer = type("Faulty", (Scorer,), {"name": "faulty", "score": lambda self, rows: action(rows)})()
    return GuardedScorer(made, codec=codec, origin="faulty-dist 1.2", settings=GuardSettings(**settings))


# -- hanging -----------------------------------------------------------------------------------------------------------
def hang(_: Rows) -> Any:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            time.sleep(0.01)
        except Exception:  # a scorer that swallows everything does not swallow its end
            continue
    return pytest.fail("was not ended")


def test_a_call_over_its_limit_is_ended_and_named(tiny_codec: Codec, rows: Rows) -> None:
    before = signal.getsignal(signal.SIGALRM)
    guard = guarded(hang, tiny_codec, time_limit=0.1)
    guard.step = 4
    start = time.monotonic()
    with pytest.raises(ScorerError, match=r"'faulty' \(faulty-dist 1.2\) in score\(\) at step 4: it was ended after 0.1 s"):
        guard.score(rows)
    assert time.monotonic() - start < 10
    assert signal.getsignal(signal.SIGALRM) is before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("deattrib-watchdog")]


def test_a_call_within_its_limit_is_left_alone(tiny_codec: Codec, rows: Rows) -> None:
    guard = guarded(lambda rows: [1.0] * len(rows), tiny_codec, time_limit=20)
    for _ in range(50):
        assert guard.score(rows).tolist() == [1.0] * 12


def test_somebody_elses_alarm_still_reaches_them(tiny_codec: Codec, rows: Rows) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
    try:

        def ring(rows: Rows) -> Any:
            signal.raise_signal(signal.SIGALRM)
            return [0.0] * len(rows)

        guarded(ring, tiny_codec, time_limit=20).score(rows)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert heard == [signal.SIGALRM]


def test_beside_the_main_thread_a_limit_is_a_report() -> None:
    def call() -> None:
        with Watchdog("It is still busy", warn_after=0, limit=0.05):
            time.sleep(0.3)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert len(caught) == 1 and "over its limit, and cannot be ended" in str(caught[0].message)


def test_a_watchdog_ends_with_its_call() -> None:
    with Watchdog("It", warn_after=60, limit=None):
        assert any(thread.name == "deattrib-watchdog" for thread in threading.enumerate())
    assert not any(thread.name == "deattrib-watchdog" for thread in threading.enumerate())


def test_a_scorer_inside_another_is_guarded_alike(tiny_codec: Codec, rows: Rows) -> None:
    """A wrapper that guards what it wraps, as `shuffled-owner` does, and knows nothing of the settings."""

    class Wrapper(Scorer):
        name = "wrapper"

        def score(self, rows: Rows) -> Any:
            return GuardedScorer(self.inner, codec=tiny_codec).score(rows)

    def slow(_: Rows) -> Any:
        time.sleep(30)

    def wrapped(action: Any, **settings: Any) -> GuardedScorer:
        scorer = Wrapper()
        scorer.inner = guarded(action, tiny_codec).scorer
        return GuardedScorer(scorer, codec=tiny_codec, settings=GuardSettings(**settings))

    with pytest.raises(ScorerError, match=r"ended after 0\.2 s, its limit"):
        wrapped(slow, time_limit=0.2).score(rows)
    with pytest.warns(UserWarning, match="are masked"):
        assert wrapped(lambda _: [NAN, *range(1, 12)], on_nonfinite="mask").score(rows)[0] == 6.0


# -- not finite --------------------------------------------------------------------------------------------------------
def test_masked_scores_take_the_median_and_are_counted(tiny_codec: Codec, rows: Rows) -> None:
    guard = guarded(lambda _: [NAN, *range(1, 12)], tiny_codec, on_nonfinite="mask")
    with pytest.warns(UserWarning, match=r"1 of 12 scores are not finite and are masked"):
        values = guard.score(rows)
    assert values.tolist() == [6.0, *range(1, 12)]  # the median of 1 ... 11
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once, counted on
        guard.score(rows)
    assert guard.masked == 2


def test_padding_is_neither_in_the_median_nor_in_the_share() -> None:
    values = torch.tensor([[NAN, 3.0, 0.0, 0.0, 0.0, 0.0], [5.0, 7.0, 0.0, 0.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False, False, False, False]] * 2)
    masked, count = mask_nonfinite(values, most=0.25, mask=mask)
    assert masked[0, 0] == 5.0 and count == 1  # the median of 3, 5, 7
    with pytest.raises(UnusableError, match="1 of 4 values"):
        mask_nonfinite(values, most=0.2, mask=mask)


@pytest.mark.parametrize("bad", [2, 12])
def test_no_more_are_masked_than_the_setting_says(tiny_codec: Codec, rows: Rows, bad: int) -> None:
    guard = guarded(lambda _: [NAN] * bad + [1.0] * (12 - bad), tiny_codec, on_nonfinite="mask", most_masked=0.1)
    with pytest.raises(ScorerError, match=rf"returned nan for row 0 \({bad} of 12 values .* at most 10% are masked.*owner 0"):
        guard.score(rows)
    assert guard.masked == 0


def test_without_the_setting_one_nan_is_an_error(tiny_codec: Codec, rows: Rows) -> None:
    with pytest.raises(ScorerError, match="returned nan for row 3"):
        guarded(lambda _: [1.0, 1.0, 1.0, NAN] * 3, tiny_codec).score(rows)


def test_masking_by_hand() -> None:
    values = torch.tensor([[1.0, NAN], [3.0, float("-inf")], [5.0, 7.0], [9.0, 11.0]])
    masked, count = mask_nonfinite(values, most=0.5)
    assert count == 2
    assert masked.tolist() == [[1.0, 5.0], [3.0, 5.0], [5.0, 7.0], [9.0, 11.0]]  # the lower median of 1 3 5 7 9 11
    with pytest.raises(UnusableError) as caught:
        mask_nonfinite(values, most=None)
    assert caught.value.place == [0, 1]


# -- scores that say nothing, or never the same ------------------------------------------------------------------------
def test_constant_scores_are_refused_as_a_reward() -> None:
    """Zero variance on both sides: no noise to stand out of, and still no difference."""
    same, lengths = torch.full((8, 3), 0.7), torch.tensor([[2, 4, 6]] * 8)
    with pytest.raises(CalibrationError, match=r"cannot tell the owner's answers .*median 0.7 .*AUROC 0.50"):
        fit_calibration(same, lengths, same, lengths, scorer="constant", source="others", noise_floor=3.0)


class Constant(Scorer):
    """Says the same of everything."""

    name = "says-the-same"

    def score(self, rows: Rows) -> Any:
        return [0.7] * len(rows)


def test_without_calibration_constant_scores_are_refused_too(
    tiny_corpus: Corpus, tiny_llama: nn.Module, tiny_codec: Codec
) -> None:
    made = Attributor(Constant, registry=PluginRegistry(entry_points=False), calibration=CalibrationSettings(enabled=False))
    with pytest.raises(CalibrationError, match=r"'says-the-same' gives 0.7 to each of \d+ true answers"):
        made.fit(tiny_corpus, LanguageModel(tiny_llama, tiny_codec))


class Moody(Scorer):
    """The owner's own answers score higher, by an amount that nothing decides."""

    name = "moody"
    noise = 0.01

    def fit(self, context: Any) -> None:
        self.own = {owner: {row.prompt for row in rows} for owner, rows in context.rows_by_owner.items()}
        self.calls = 0

    def score(self, rows: Rows) -> Any:
        self.calls += 1
        length = torch.tensor([float(len(row.response)) for row in rows])
        return length + self.noise * self.calls


@pytest.mark.parametrize("noise", [0.01, 0.0])
def test_a_scorer_that_does_not_repeat_itself_is_told_and_in_the_report(
    tiny_corpus: Corpus, tiny_llama: nn.Module, tiny_codec: Codec, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deattrib.attribution import attributor

    monkeypatch.setattr(Moody, "noise", noise)
    # The random model's answers cannot be told apart by length; what is asked here comes after the scale.
    monkeypatch.setattr(attributor, "measure_scale", lambda guard, witnesses, settings: None)
    made = Attributor(
        Moody, registry=PluginRegistry(entry_points=False), calibration=CalibrationSettings(rows=8, max_new_tokens=4)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made.fit(tiny_corpus, LanguageModel(tiny_llama, tiny_codec))
    told = [str(item.message) for item in caught if "different scores" in str(item.message)]
    assert len(told) == (1 if noise else 0)
    assert made.report()[0].get("repeats", True) is (noise == 0)
    if told:
        assert "'moody'" in told[0] and "context.seed" in told[0]
