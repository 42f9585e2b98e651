"""The small parts: numbers, text, shading, ticks, curves, tracks."""

from __future__ import annotations

from typing import Any

import pytest

from deattrib.report.answers import answer, groups, level, spread, stretches
from deattrib.report.curves import curves
from deattrib.report.figures import figure, percent, plain, seconds, show, show_gap
from deattrib.report.series import along, bounds, series, smooth, thin, ticks
from deattrib.report.text import LIMIT, visible
from deattrib.report.tracks import tracks


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), (0.0003, "<0.1 %"), (0.9996, ">99.9 %"), (0.995, "99.5 %"), (0.5, "50 %"), (-0.1, "−10 %")],
)
def test_percent_rounds_but_never_to_a_clean_end(share: float, text: str) -> None:
    assert percent(share).replace("\u202f", " ") == text


def test_numbers_for_people() -> None:
    assert [plain(number) for number in (0.0, 14.06, 790.4, 4.1, 0.25, -3.0, 1e-5, 2.5e7)] == [
        "0", "14.1", "790", "4.10", "0.25", "−3", "1.0e−05", "2.5e+07",
    ]  # fmt: skip
    assert show(None, "score") == "–" and show(3e-41, "p") == "3e−41"
    assert show_gap(0.0004, "score") == "±0" and show_gap(-0.02, "share").replace("\u202f", " ") == "−2.0 pt"
    assert [seconds(number).replace("\u202f", " ") for number in (0.43, 84, 259, 7800)] == [
        "0.4 s",
        "84 s",
        "4 min 19 s",
        "2 h 10 min",
    ]
    assert [figure(value) for value in (True, "1", None, float("nan"), 10**400, 2)] == [None] * 5 + [2.0]


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("\x1b[0m", "[U+001B][0m"),
        ("a\u202eb\u2066c\u200bd", "a[U+202E]b[U+2066]c[U+200B]d"),
        ("\ud83d", "[U+D83D]"),
        ("\ufeff\uffff", "[U+FEFF][U+FFFF]"),
        ("a\nb\tc\r", "a ↵ b ⇥ c[U+000D]"),
        ("Zoë नमस्ते 👩\u200d🚀", "Zoë नमस्ते 👩\u200d🚀"),
        ("e" + "\u0301" * 40 + "f", "e" + "\u0301" * 4 + "[+marks]f"),
    ],
)
def test_every_character_is_visible_and_scripts_survive(source: str, shown: str) -> None:
    assert visible(source) == shown


def test_endless_text_is_cut_and_counted() -> None:
    assert visible("x" * (LIMIT + 7)).endswith("… [+7 characters]")
    entry = answer({"text": "x" * (LIMIT + 7)}, "")
    assert entry is not None and entry.text[-1].runs[0].text.endswith("[+7 characters]")


def test_shades_and_the_fact_are_cut_independently() -> None:
    cut = stretches([("Born in", 0), (" Sable", 5), (" Quay", 3), (".", 3)], "sable quay")
    assert [(part.fact, [(run.text, run.level) for run in part.runs]) for part in cut] == [
        (False, [("Born in", 0), (" ", 5)]),
        (True, [("Sable", 5), (" Quay", 3)]),
        (False, [(".", 3)]),
    ]
    assert [level(share) for share in (None, -1.0, 0.0, 0.17, 0.5, 1.0, 9.0)] == [0, 0, 0, 1, 3, 5, 5]


def test_tokens_that_do_not_spell_the_answer_are_not_used() -> None:
    entry = answer({"text": "Sable Quay", "tokens": [["ĠSable", 0.9], ["ĠQuay", 0.9]]}, "Sable Quay")
    assert entry is not None and entry.unshaded and entry.stated
    assert [run.level for part in entry.text for run in part.runs] == [0]
    assert answer(None, "") is None


def test_rows_are_spread_and_counted(run: Any) -> None:
    assert spread(24, 8) == [0, 3, 6, 9, 12, 15, 18, 21] and spread(2, 8) == [0, 1] and spread(0, 8) == []
    forget, retain = groups({"rows": run.answers["rows"] * 10})
    assert forget.forget and not retain.forget
    assert (forget.total, len(forget.first), len(forget.rest), forget.left) == (240, 8, 72, 160)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 0.02), (3.1, 3.2), (0, 1e9), (-5e-7, 5e-7), (12.3, 15.9)])
def test_ticks_are_round_few_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 5
    slack = (high - low) * 1e-6
    assert all(low - slack <= tick <= high + slack and len(f"{abs(tick):.3g}".replace(".", "")) <= 6 for tick in found)


def test_flat_and_single_curves_have_a_range() -> None:
    for values in ([0.0], [3.0, 3.0], [-2.0]):
        low, high = bounds(values)
        assert low < high and low <= min(values) and max(values) <= high
    one = curves([{"kind": "step", "step": 1, "reward": -1.0}])
    assert one.steps == 1 and "nan" not in one.main[0].drawing


def test_a_resumed_run_counts_each_step_once_as_last_written() -> None:
    events = [{"kind": "step", "step": step, "kl": 0.1 * step} for step in (1, 2, 3)] + [{"kind": "step", "step": 2, "kl": 9.0}]
    assert series(events)["kl"] == [(1, 0.1), (2, 9.0), (3, pytest.approx(0.3))]


def test_thinning_keeps_peaks_and_smoothing_keeps_lines() -> None:
    points = [(float(step), 0.0) for step in range(5000)]
    points[1234] = (1234.0, 7.0)
    kept = thin(points)
    assert (1234.0, 7.0) in kept and len(kept) <= 420 and kept == sorted(kept)
    line = [(float(step), 2.0 * step) for step in range(60)]
    assert [number for _, number in smooth(line)] == pytest.approx([number for _, number in line])


def test_unknown_curves_go_under_the_fold(run: Any) -> None:
    found = curves(run.events, 0.01)
    assert [curve.key for curve in found.main] == ["reward", "attribution", "kl", "length"]
    assert [curve.key for curve in found.extra] == ["gradient_norm", "seconds"]
    assert "oracle" in found.main[1].drawing and 'class="stop"' in found.main[0].drawing


def test_tracks_put_each_model_where_its_figure_is(run: Any) -> None:
    to_forget, to_keep = tracks(run.metrics["rows"])
    assert [track.measure.key for track in to_forget] == ["fact_recall", "attribution", "forget_rouge", "ks_distance"]
    assert [track.measure.key for track in to_keep] == ["retain_rouge", "retain_paraphrase_rouge", "world_rouge"]
    drawing = to_forget[2].drawing
    assert 'class="oracle" cx="41.20%"' in drawing and 'class="unlearned" cx="43.30%"' in drawing
    assert 'class="original" x1="96.20%"' in drawing


def test_a_missing_measure_gives_its_place_to_the_next(run: Any) -> None:
    run.metrics["rows"]["unlearned"]["fact_recall"] = None
    assert [track.measure.key for track in tracks(run.metrics["rows"])[0]] == [
        "attribution",
        "forget_rouge",
        "extraction_strength",
        "ks_distance",
    ]
    run.metrics["rows"]["unlearned"]["ks_distance"] = None
    assert "ks_distance" not in [track.measure.key for track in tracks(run.metrics["rows"])[0]]


@pytest.mark.parametrize(
    ("share", "place"), [(-1.0, "0.00%"), (0.0, "0.00%"), (0.1234, "12.34%"), (1.0, "100.00%"), (7.0, "100.00%")]
)
def test_a_figure_outside_of_a_track_is_at_its_end(share: float, place: str) -> None:
    assert along(share) == place
