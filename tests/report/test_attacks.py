"""The page's section on attacks: every model in one drawing, whatever is broken left out."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from deattrib.report.attacks import attack_rows, draw, panels


def entry(figure: float | None, curve: Any, **more: Any) -> dict[str, Any]:
    return {"figure": figure, "curve": curve, "unit": "ROUGE-L recall", "x": "steps", "what": "What.", "seconds": 1.5, **more}


ROWS: dict[str, Any] = {
    "original": {"attacks": {"relearning": entry(0.9, [[0, 0.8], [10, 0.9]], interval=[0.85, 0.95])}},
    "oracle": {"attacks": {"relearning": entry(0.5, [[0, 0.4], [10, 0.5]])}},
    "unlearned": {
        "attacks": {
            "relearning": entry(None, None, error="Attack 'relearning' <b>failed</b>"),
            "int4": entry(0.25, [[4, 0.25]], curves={"fact recall": [[4, 0.0]]}, more={"retain_rouge": 0.75}),
        }
    },
}


def test_every_model_is_in_the_panel() -> None:
    relearning, int4 = panels(ROWS, {})
    assert [(cell.model, cell.text) for cell in relearning.cells] == [
        ("original", "0.900"),
        ("unlearned", "–"),
        ("oracle", "0.500"),
    ]
    assert relearning.cells[0].interval == "0.850 … 0.950" and "failed" in relearning.cells[1].error
    assert relearning.seconds.split() == ["4.5", "s"]
    assert [title for title, _ in int4.drawings] == ["ROUGE-L recall", "fact recall"]
    assert int4.more == [("retain_rouge", ["0.750"])]


def test_a_later_attack_wins_over_the_runs_own() -> None:
    later = {"rows": {"oracle": {"relearning": entry(0.6, None), "prefix": entry(0.1, None)}}}
    found = attack_rows(ROWS, later)
    assert found["oracle"]["relearning"]["figure"] == 0.6 and found["oracle"]["prefix"]["figure"] == 0.1
    assert found["original"]["relearning"]["figure"] == 0.9


@pytest.mark.parametrize(
    "broken",
    [{}, {"attacks": None}, {"attacks": {"x": None}}, {"attacks": {"x": {"curve": [[1], "a", [2, None]], "figure": "no"}}}],
)
def test_what_is_broken_is_left_out(broken: dict[str, Any]) -> None:
    for panel in panels({"unlearned": broken}, {"rows": 3}):
        assert [cell.text for cell in panel.cells] == ["–"] and panel.drawings == []


def test_points_are_where_their_values_are() -> None:
    drawing = str(draw("a <label>", {"original": [(0.0, 0.0), (20.0, 1.0)], "unlearned": [(0.0, 1.0), (5.0, 0.5)]}, "steps"))
    tree = ElementTree.fromstring(drawing)
    paths = {path.get("class"): path.get("d") for path in tree.iter("path")}
    ends = {
        key: [tuple(map(float, spot.split())) for spot in re.split("[ML]", value or "")[1:]] for key, value in paths.items()
    }
    (left, bottom), (right, top) = ends["of-original"]
    assert ends["of-unlearned"] == [(left, top), ((left + right) / 2, pytest.approx((top + bottom) / 2, abs=0.1))]
    assert top < bottom and left < right and "a &lt;label&gt;" in drawing
