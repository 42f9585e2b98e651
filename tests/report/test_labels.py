"""A figure is called the same wherever it is shown."""

from __future__ import annotations

import ast
from pathlib import Path

from deattrib.cli import show
from deattrib.compare.markdown import COLUMNS, OWN
from deattrib.compare.score import ATTACKS, PARTS
from deattrib.compare.views import COLUMNS as HEADINGS
from deattrib.report.labels import LABELS, heading
from deattrib.report.measures import BY_KEY, MEASURES
from deattrib.report.more_measures import FOLDED

CORE = Path(show.__file__).parents[1]


def test_terminal_pages_and_tables_say_the_same() -> None:
    assert {key for key, _ in show.COLUMNS} <= set(LABELS)
    assert {part.key: part.label for part in PARTS if part.key != ATTACKS}.items() <= LABELS.items()
    assert {LABELS[key] for key in ("extraction_strength", "tow", "model_utility")} <= {column.title for column in HEADINGS}
    assert {key: label for key, label in COLUMNS.items() if key not in OWN}.items() <= LABELS.items()
    assert not OWN.keys() & LABELS.keys()


def test_the_page_says_it_first_and_may_go_on() -> None:
    measures = [measure for measure in (*MEASURES, *FOLDED) if measure.key in LABELS]
    assert {measure.key for measure in measures} == set(LABELS)
    assert [measure.label for measure in measures if not measure.label.startswith(heading(measure.key))] == []
    assert BY_KEY["fact_recall"].label == "Fact recall" and BY_KEY["attribution"].label == "Attribution, referee"


def test_labels_are_different_and_fit_the_terminal() -> None:
    assert len(set(LABELS.values())) == len(LABELS)
    assert max(len(LABELS[key]) for key, _ in show.COLUMNS) <= 15


def test_no_second_table_of_labels() -> None:
    """Nowhere else a key stands beside a text that calls it something."""
    words = set(LABELS.values())
    found = []
    for path in sorted(CORE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            pairs: list[tuple[ast.expr | None, ast.expr]] = []
            if isinstance(node, ast.Dict):
                pairs = list(zip(node.keys, node.values, strict=True))
            elif isinstance(node, ast.Tuple | ast.List) and len(node.elts) > 1:
                pairs = [(node.elts[0], node.elts[1])]
            elif isinstance(node, ast.Call) and len(node.args) > 1:
                pairs = [(node.args[0], node.args[1])]
            values = [[one.value for one in pair if isinstance(one, ast.Constant)] for pair in pairs]
            found += [
                (path.name, *pair)
                for pair in values
                if len(pair) == 2 and pair[0] in LABELS and pair[1] in words - LABELS.keys()
            ]
    assert [pair for pair in found if pair[0] != "labels.py"] == [] and len(found) == len(
        LABELS
    ) - 1  # attribution is its own key
