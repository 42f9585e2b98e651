"""The page as a whole: every section, hostile input, missing input, no network, same input same bytes."""

from __future__ import annotations

import copy
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from deattrib.errors import RunError
from deattrib.report import render, write_report

VOID = {"meta", "line", "circle", "path", "rect", "br", "link", "img", "input"}
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg/onload=alert(3)>\x1b[31m\u202eesrever\u0000{{ 7*7 }}\ud800"
)


class Reader(HTMLParser):
    """Collects what a browser would act on, and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def poison(value: Any) -> Any:
    """The same structure with every text, and every key that is free, replaced or followed by hostile text."""
    if isinstance(value, dict):
        return {key: poison(inner) for key, inner in value.items()} | {f"x{HOSTILE}": 0.5}
    if isinstance(value, list):
        return [poison(inner) for inner in value]
    return value + HOSTILE if isinstance(value, str) and value not in ("step", "stage", "warning", "stop") else value


def test_all_sections_and_models_are_there(run: Any) -> None:
    reader = read(render(*run.parts))
    text = "".join(reader.text)
    for heading in ("Figures", "Learning curves", "Answers, before and after", "Settings, versions, time", "Warnings"):
        assert heading in text
    for word in ("Original", "Unlearned", "Oracle", "Oracle 2", "Ilse Varga-Montoya", "Sable Quay", "ppo.lr", "2.13.0"):
        assert word in text
    assert "bins 1 and 2 pooled" in text and "attribution at chance for 5 steps" in text
    assert len(reader.ids) == len(set(reader.ids))
    assert text.count("repetition_rate") == 1, "unknown figures belong under the fold"
    labels = [value for tag, name, value in reader.attributes if (tag, name) == ("svg", "aria-label")]
    assert sum(label.startswith("Fact recall: original 100") for label in labels) == 1
    assert any(label.startswith("Attribution over 60 steps") for label in labels)


def test_hostile_text_never_becomes_markup_and_always_shows(run: Any) -> None:
    clean = read(render(*run.parts))
    page = render(*(poison(part) for part in run.parts))
    reader = read(page)
    assert clean.tags - reader.tags <= {"mark"} and reader.tags <= clean.tags  # no poisoned fact is in an answer
    assert not reader.tags & {"script", "img", "iframe", "link", "object"}
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    text = "".join(reader.text)
    assert "<script>alert(1)</script>" in text and "{{ 7*7 }}" in text
    assert "[U+001B][31m[U+202E]esrever[U+0000]" in text and "[U+D800]" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page)
    page.encode("utf-8")


def test_nothing_is_loaded_and_nothing_runs(run: Any) -> None:
    run.answers["rows"][0]["prompt"] = "Is https://example.org/x.png a picture?"
    page = render(*run.parts)
    reader = read(page)
    assert "script" not in reader.tags
    for tag, name, value in reader.attributes:
        assert not (
            name in ("src", "srcset", "action", "data", "xlink:href") or (name == "href" and not value.startswith("#"))
        ), (tag, name)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style and "http" not in style
    assert "default-src 'none'" in page


def test_same_input_same_bytes_and_input_untouched(run: Any) -> None:
    before = copy.deepcopy(run.parts)
    assert render(*run.parts) == render(*run.parts)
    assert run.parts == before


def test_nulls_nan_and_wrong_types_are_blanks_not_errors(run: Any) -> None:
    for row in run.metrics["rows"].values():
        for key in list(row):
            row[key] = None
    run.metrics["rows"]["oracle_second"] = None
    run.metrics["rows"]["unlearned"].update(fact_recall=float("nan"), tow="high", attribution=True, intervals={"tow": [None]})
    run.events[2]["reward"] = None
    run.events[3]["kl"] = float("inf")
    run.answers["rows"][0].update(original=None, fact=None, unlearned={"text": None, "attribution": None, "tokens": [["a"], 3]})
    page = render(*run.parts)
    read(page)
    assert "no measure of forgetting was taken" in page and "Oracle 2" not in page
    assert not re.search(r"\b(nan|inf|None)\b", page)


@pytest.mark.parametrize("empty", [({}, [], {}, {}, {}), ({"rows": 3}, [{}], {"rows": [1]}, {}, {})])
def test_an_empty_run_still_gives_a_page(empty: tuple[Any, ...]) -> None:
    text = "".join(read(render(*empty)).text)
    assert "No figures were recorded" in text and "No steps were recorded" in text and "No answers were recorded" in text


@pytest.mark.parametrize(("shaded", "framed"), [(True, True), (True, False), (False, True), (False, False)])
def test_the_legend_of_the_answers_explains_only_what_is_there(run: Any, shaded: bool, framed: bool) -> None:
    for row in run.answers["rows"]:
        if not framed:
            del row["fact"]
        for model in ("original", "unlearned", "oracle"):
            if not shaded:
                del row[model]["tokens"]
    page = render(*run.parts)
    text = "".join(read(page).text)
    assert ("The shade under a word" in text) == ('class="ramp"' in page) == shaded
    assert ("is framed wherever it occurs" in text) == ("<mark>" in page) == framed
    assert "not picked by outcome" in text


def test_write_report_replaces_the_page_and_leaves_nothing_behind(run: Any, tmp_path: Path) -> None:
    folder = run.write(tmp_path / "run")
    (folder / "report.html").write_text("old")
    before = {path.name for path in folder.iterdir()}
    path = write_report(folder)
    assert path == folder / "report.html" and {entry.name for entry in folder.iterdir()} == before
    assert path.read_text(encoding="utf-8") == render(*run.parts)


def test_missing_and_broken_files_are_said_on_the_page(run: Any, tmp_path: Path) -> None:
    folder = run.write(tmp_path)
    (folder / "answers.json").unlink()
    (folder / "manifest.json").write_text("{")
    (folder / "config.yaml").write_text("a: [")
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"kind": "st')
    page = write_report(folder).read_text(encoding="utf-8")
    for said in (
        "answers.json is not in the run folder",
        "manifest.json is not readable",
        "config.yaml is not readable",
        "1 unreadable line",
    ):
        assert said in page


@pytest.mark.parametrize("content", [None, "", "[1]", "{}"])
def test_without_figures_there_is_no_report_and_the_error_says_what_to_do(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(RunError, match=r"metrics\.json.*resume it"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_full_disk_is_an_error_of_ours_and_leaves_the_older_page(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run.write(tmp_path / "run")
    write_report(folder)
    before = (folder / "report.html").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunError, match=r"Cannot write .*report.html: No space left on device"):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == before and not list(folder.glob(".tmp-*"))


def test_the_page_of_a_real_run_shows_both_scorers(tiny_run: Path) -> None:
    page = (tiny_run / "report.html").read_text(encoding="utf-8")
    assert "<h3>The reward’s scorer</h3>" in page and "<h3>The referee</h3>" in page
