"""The page is one file that loads nothing, says everything in words, and trusts no text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from deattrib.audit.page import render

EVIL = "<script>alert(1)</script>"


def entry(name: str, value: float | None) -> dict[str, Any]:
    interval = {"value": value, "low": -0.1, "high": 0.9, "rows": 3}
    return {
        "name": name, "error": None, "notes": [EVIL], "rows": {"spearman": interval, "kendall": interval},
        "owners": {"spearman": interval}, "lds": None, "top1_own": 0.5, "cost": {"forwards": 2.5},
        "means": {"original": {"attribution": 0.75}}, "scores": [0.1, None, 0.3],
        "calibration_curve": [{"attribution": 0.1, "exact": 0.2}, {"attribution": 0.9, "exact": 0.8}],
        "drift": [{"step": 0, "spearman": 0.5}, {"step": 20, "spearman": None}, {"step": 40, "spearman": -0.25}],
    }  # fmt: skip


@pytest.fixture
def content() -> dict[str, Any]:
    return {
        "schema": 1, "seed": 0, "corpus": {"name": EVIL, "owners": 3}, "owners": ["a", EVIL], "settings": {"rows": 8},
        "exact": {"seeds": 3, "ceiling_rows": 0.875, "ceiling_lds": None, "means": {"original": 1.5}},
        "scorers": [entry("one", 0.625), entry(EVIL, None), {"name": "three", "error": "no " + EVIL}],
        "rows": [{"kind": "original", "exact": 1.0}, {"kind": "true", "exact": 0.0}, {"kind": "gibberish", "exact": -1.0}],
        "seconds": {"exact": 61.0},
    }  # fmt: skip


def test_nothing_is_loaded_or_run(content: dict[str, Any]) -> None:
    page = render(content)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r"""\bsrc=|url\(|@import|https?://""", page)
    assert set(re.findall(r'href="(.)', page)) == {"#"}
    assert render(content) == page


def test_figures_are_there_in_words(content: dict[str, Any]) -> None:
    page = render(content)
    assert "one: 0.625 (−0.1 to 0.9)" in page
    assert "Ceiling 0.875" in page
    assert "1 min 01" in page or "61" in page
    assert "no &lt;script" in page


def test_every_drawing_is_well_formed_and_inside_its_frame(content: dict[str, Any]) -> None:
    drawings = re.findall(r"<svg class=\"curve.*?</svg>", render(content), re.DOTALL)
    assert len(drawings) == 2 + 2 + 2 + 2  # rankings (rows, owners), clouds, calibration, drift
    for text in drawings:
        tree = ElementTree.fromstring(text)
        assert tree.attrib["aria-label"]
        _, _, width, height = (float(part) for part in tree.attrib["viewBox"].split())
        for circle in tree.iter("circle"):
            assert 0 <= float(circle.attrib["cx"]) <= width and 0 <= float(circle.attrib["cy"]) <= height


def test_an_audit_without_figures_still_is_a_page() -> None:
    page = render({})
    assert "Nothing could be ranked" in page


def test_the_words_of_kinds_never_become_a_class(content: dict[str, Any]) -> None:
    content["rows"][0]["kind"] = '"><b>'
    assert 'kind-"' not in render(content) and '">&lt;b' not in render(content)
