"""The folded part of the figures: every built-in column has its label, others bring theirs."""

from __future__ import annotations

from deattrib.evaluation.metrics.builtin import METRICS
from deattrib.report.more_measures import FOLDED, PLACED
from deattrib.report.page import render
from deattrib.report.table import table

ROWS = {
    name: {
        "fact_recall": 0.1,
        "membership_auc_loss": auc,
        "oracle_kl": 0.25,
        "politeness": 0.5,
        "odd": 2.0,
        "attributions": {"loss": 0.25, "classifier": 0.75},
        "intervals": {"attributions.loss": [0.2, 0.3], "politeness": [0.4, 0.6]},
    }
    for name, auc in (("original", 0.9), ("oracle", 0.5), ("unlearned", 0.52))
}
TOLD = {"polite": {"columns": [{"key": "politeness", "what": "Says <please>.", "direction": "higher", "unit": "share"}]}}


def test_every_built_in_column_has_a_place() -> None:
    declared = [column.key for metric in METRICS for column in metric.described()]
    assert len(declared) > 20 and [key for key in declared if key not in PLACED] == []
    assert len({measure.key for measure in FOLDED}) == len(FOLDED)


def test_groups_are_folded_and_scorers_come_first() -> None:
    whole = table(ROWS, TOLD, {"classifier": {"reward": True}})
    assert [title for title, _ in whole.groups] == ["Forgotten: questions about the owners to forget"]
    assert whole.folded[0][0] == "Attribution by other scorers"
    loss, classifier = whole.folded[0][1]
    assert loss.label == "loss" and loss.cells[0].interval == "0.200 … 0.300"
    assert "reward’s own" in classifier.label
    (auc,) = next(lines for title, lines in whole.folded if title == "Membership inference")
    assert auc.verdict.state == "good"  # a twentieth of the way is left


def test_a_plugins_column_says_what_it_is_and_an_unknown_one_only_its_key() -> None:
    odd, politeness = table(ROWS, TOLD).more
    assert (odd.label, odd.arrow, odd.definition) == ("odd", "", "")
    assert politeness.arrow == "↑" and politeness.definition == "Says <please>."
    assert politeness.cells[0].text.startswith("50") and politeness.cells[0].interval


def test_the_page_has_them_escaped_with_the_warnings() -> None:
    metrics = {"rows": ROWS, "metrics": TOLD, "warnings": ["Metric 'x' (y 1.0) failed on row 'unlearned'"]}
    page = render(metrics, [], {}, {}, {})
    assert "Says &lt;please&gt;." in page and "Says <please>" not in page
    assert "Metric &#39;x&#39; (y 1.0) failed" in page
    assert "<summary>Membership inference (1)</summary>" in page
