"""The page: hostile text, no network, marks where they belong, a page for anything."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.report.test_page import HOSTILE, read

from deattrib.compare.content import build_content
from deattrib.compare.folders import ComparedRun
from deattrib.compare.page import render
from deattrib.compare.plots import Axes, apart

Make = Callable[..., ComparedRun]
ATTACK = {"figure": 0.4, "what": "ROUGE after relearning", "curve": [[0, 0.1], [10, 0.4], [20, 0.6]], "seconds": 3}


@pytest.fixture
def content(make_run: Make, failed_run: ComparedRun, tmp_path: Path) -> dict[str, Any]:
    """Three contenders, one collapsed, one failed, a variant; attacks and attributions of every model."""
    runs = [
        make_run(method, variant=variant, seed=seed, share=share, gibberish_rate=gibberish)
        for method, variant, share, gibberish in (
            ("dareu", "", 0.05, 0.0),
            ("dareu", "no anchor", 0.2, 0.0),
            ("npo", "", 0.4, 0.0),
            ("ga", "", 0.01, 0.7),
        )
        for seed in range(3)
    ]
    for run in runs:
        for number, model in enumerate(("oracle", "unlearned", "original")):
            row: Any = run.rows[model]
            row["attacks"] = {"relearn": {**ATTACK, "figure": 0.1 + 0.3 * number}}
            row["attributions"] = {"trak": 0.1 + 0.3 * number}
    (tmp_path / "runs" / "a b").mkdir(parents=True)
    (tmp_path / "runs" / "a b" / "report.html").write_text("page")
    runs[0] = replace(runs[0], folder=tmp_path / "runs" / "a b")
    return build_content("demo", [*runs, failed_run], beside=tmp_path, samples=50)


def text_of(page: str) -> str:
    return "".join(read(page).text)


def table_rows(page: str) -> dict[str, str]:
    """First table: name of the row -> its markup."""
    body = page.split("<tbody>")[1].split("</tbody>")[0]
    return {re.sub("<[^>]+>", "", row.split("</th>")[0]).strip(): row for row in body.split("<tr")[1:]} | {"": body}


def test_everything_is_on_it(content: dict[str, Any]) -> None:
    page = render(content)
    text = text_of(page)
    for word in ("dareu · classifier came closest", "Forgotten", "Kept", "How certain", "Forgetting against what is left",
                 "Variants", "Attribution by every scorer", "Attacks", "relearn", "trak", "layer 9 does not exist", "2.13.0",
                 "ppo.note", "second oracle"):  # fmt: skip
        assert word in text, word
    reader = read(page)
    assert len(reader.ids) == len(set(reader.ids))
    assert ("a", "href", "runs/a%20b/report.html") in reader.attributes


def test_what_collapsed_is_shown_and_never_marked(content: dict[str, Any]) -> None:
    rows = table_rows(render(content))
    fallen = next(row for name, row in rows.items() if name.endswith("ga"))
    best = next(row for name, row in rows.items() if name.endswith("dareu · classifier"))
    assert 'class="best"' not in fallen and 'class="second"' not in fallen and 'class="out"' in fallen
    assert best.count('class="best"') > 5
    for reference in ("original", "oracle", "second oracle"):
        row = next(row for name, row in rows.items() if name.endswith(">" + reference) or name == reference)
        assert "best" not in row
    assert "collapsed" in text_of(render(content))


def test_hostile_text_never_becomes_markup(content: dict[str, Any]) -> None:
    clean = read(render(content))

    def poison(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: poison(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [poison(inner, key) for inner in value]
        return value + HOSTILE if isinstance(value, str) and key != "parts" else value

    hostile = poison(json.loads(json.dumps(content)))
    for entry in hostile["entries"]:
        for names in (entry["figures"], entry["attack_curves"]):
            names |= {f"{name}{HOSTILE}": inner for name, inner in names.items()}
    hostile["versions"][HOSTILE] = [HOSTILE]
    page = render(hostile)
    reader = read(page)
    assert reader.tags <= clean.tags and not reader.tags & {"script", "img", "iframe", "link", "object"}
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in "".join(reader.text)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page)
    page.encode("utf-8")


def test_nothing_is_loaded_and_nothing_runs(content: dict[str, Any]) -> None:
    page = render(content)
    reader = read(page)
    assert "script" not in reader.tags
    for tag, name, value in reader.attributes:
        assert name not in ("src", "srcset", "action", "data", "xlink:href"), (tag, name)
        assert name != "href" or (tag == "a" and not re.match(r"[a-z]+:|//", value)), value
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in page


def test_same_input_same_bytes_and_input_untouched(content: dict[str, Any]) -> None:
    before = copy.deepcopy(content)
    assert render(content) == render(json.loads(json.dumps(content)))
    assert content == before


def test_nothing_to_compare_is_still_a_page(failed_run: ComparedRun, make_run: Make) -> None:
    for runs in ([], [failed_run], [make_run()]):
        text = text_of(render(build_content("x", runs, beside=Path("."), samples=20)))
        assert not re.search(r"\b(nan|None|inf)\b", text)
    assert "Nothing to compare" in text_of(render(build_content("x", [], beside=Path("."))))


def test_figures_without_a_contender_are_not_called_far_away(make_run: Make) -> None:
    exact = [make_run(reward="exact", seed=seed, share=0.0) for seed in range(3)]
    text = text_of(render(build_content("x", exact, beside=Path("."), samples=20)))
    assert "No entry contends" in text and "collapsed, retrains or lacks seeds" in text and "came close" not in text


def test_a_reader_is_told_what_to_know_before_quoting(make_run: Make, failed_run: ComparedRun) -> None:
    runs = [make_run(seed=0), make_run(seed=1), make_run("npo", seed=0, rows=False), make_run("ga", seed=0, gibberish_rate=1.0)]
    text = text_of(render(build_content("x", [*runs, failed_run], beside=Path("."), samples=20)))
    for said in ("Not all entries have the same seeds", "Fewer than three seeds", "no figures of single rows",
                 "Collapsed in some or all seeds: ga", "1 run has no result"):  # fmt: skip
        assert said in text, said
    clean = [make_run(method, seed=seed) for method in ("dareu", "npo") for seed in range(3)]
    assert 'class="caveats"' not in render(build_content("x", clean, beside=Path("."), samples=20))


def test_badges_never_cover_each_other() -> None:
    axes = Axes((0.0, 1.0), (0.0, 1.0), (600, 400))
    spots = apart([(300.0, 200.0)] * 12, axes)
    assert spots[0] == (300.0, 200.0)
    gaps = [((a - c) ** 2 + (b - d) ** 2) ** 0.5 for i, (a, b) in enumerate(spots) for c, d in spots[:i]]
    assert min(gaps) >= 19


def test_a_badge_that_stands_aside_stays_on_its_side() -> None:
    axes = Axes((0.0, 1.0), (0.0, 1.0), (600, 400))
    lower, higher = apart([(300.0, 200.0), (303.0, 206.0)], axes), apart([(300.0, 200.0), (303.0, 194.0)], axes)
    assert lower[1][1] > lower[0][1] == 200.0 and higher[1][1] < 200.0  # y grows downwards


def test_wide_tables_scroll_inside_their_margins(content: dict[str, Any]) -> None:
    page = render(content)
    assert page.count("<table") == len(re.findall(r'<div class="scroll[^>]*>\s*<table', page)) > 4
    style = page[page.index("<style>") : page.index("</style>")]
    assert re.search(r"\.scroll \{ position: relative; overflow-x: auto; \}", style), "hidden words widen the page otherwise"
    assert "100vw" not in style


def test_axes_and_times_say_what_they_are(content: dict[str, Any]) -> None:
    text = text_of(render(content))
    assert "Neither axis is the score: numbers are places by score" in text
    assert "loop time" in text and "loop, seconds" in text
