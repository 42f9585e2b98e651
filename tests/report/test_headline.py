"""The sentence at the top is as honest as the figures: failure, half-success, damage and gibberish are all called so."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from deattrib.report import page
from deattrib.report.headline import headline
from deattrib.report.measures import BY_KEY
from deattrib.report.verdict import judge, share_left

THIN = "\N{NARROW NO-BREAK SPACE}"


def said(run: Any, **unlearned: float | None) -> Any:
    run.metrics["rows"]["unlearned"].update(unlearned)
    return headline(run.metrics)


def test_success(run: Any) -> None:
    top = said(run, retain_rouge=0.998, retain_paraphrase_rouge=0.84)
    assert top.title == "Forgotten, and the rest kept" and top.forgotten and top.state == "good" and top.caveats == ()
    assert top.sentence.replace(THIN, " ") == (
        "The model was asked to forget 2 of 20 owners: it now states 0 % of their facts (the original 100 %, a model retrained "
        "without them 0 %) and keeps its full score on questions about everybody else."
    )


def test_a_ceiling_is_called_one(run: Any) -> None:
    assert not headline(run.metrics).title.startswith("Ceiling")
    plain = page.render(*run.parts)
    assert "A ceiling" not in plain
    for said_by in ({"ceiling": True}, {"reward_scorer": [{"name": "exact", "fidelity": "exact"}]}):
        run.metrics.update({"ceiling": False, "reward_scorer": []}, **said_by)
        top = headline(run.metrics)
        assert top.title.startswith("Ceiling: forgotten") and top.caveats[0].startswith("A ceiling, never a contender")
        assert "A ceiling, never a contender" in page.render(*run.parts)
    for judged in ({"method": "npo"}, {"method": "rloo", "rewarded": False}):  # the scorer that retrains only judges
        assert not headline({**run.metrics, **judged}).title.startswith("Ceiling")
    assert headline({**run.metrics, "method": "rloo", "rewarded": True}).title.startswith("Ceiling")


def test_the_scorers_of_a_reward_are_on_the_page(run: Any) -> None:
    """As the runs write them: a list, one mapping per scorer."""
    run.metrics["reward_scorer"] = [{"name": "one-of-two", "fidelity": "proxy"}, {"name": "other-of-two", "fidelity": "exact"}]
    text = page.render(*run.parts)
    assert "one-of-two" in text and "other-of-two" in text


def test_failure_is_called_failure(run: Any) -> None:
    top = said(run, fact_recall=0.95, attribution=0.9, forget_rouge=0.95)
    assert top.title.startswith("Not forgotten") and not top.forgotten and top.state == "bad"
    assert "and did not: it still states 95" in top.sentence


def test_low_fact_recall_does_not_hide_high_attribution(run: Any) -> None:
    top = said(run, attribution=0.6)
    assert top.title.startswith("Only partly forgotten") and not top.forgotten
    assert any("Attribution" in caveat and "0.600" in caveat for caveat in top.caveats)


def test_gibberish_is_not_forgetting(run: Any) -> None:
    top = said(run, gibberish_rate=1.0)
    assert top.title.startswith("Not usable") and not top.forgotten and top.state == "bad"
    assert "no proof of forgetting" in top.caveats[0]


def test_damage_to_the_rest_is_said(run: Any) -> None:
    top = said(run, retain_rouge=0.5)
    assert top.title == "Forgotten, and much else was lost" and top.state == "bad"
    assert "keeps only 50.1" in top.sentence


def test_past_the_oracle_is_a_miss(run: Any) -> None:
    top = said(run, forget_rouge=0.0)
    assert top.title.startswith("Forgotten past the oracle") and not top.forgotten


def test_nothing_to_forget(run: Any) -> None:
    run.metrics["rows"]["original"] = dict(run.metrics["rows"]["oracle"])
    assert headline(run.metrics).title == "There was nothing to forget"


def test_attribution_or_rouge_stand_in_for_missing_facts(run: Any) -> None:
    top = said(run, fact_recall=None)
    assert "attributed to them at 0.018" in top.sentence
    top = said(run, attribution=None)
    assert "matches their answers at ROUGE 0.433" in top.sentence


def test_one_owner_is_singular(run: Any) -> None:
    run.metrics["corpus"]["forget_owners"] = ["A"]
    assert "forget 1 of 20 owners" in headline(run.metrics).sentence and "of its facts" in headline(run.metrics).sentence


def test_a_remainder_is_never_rounded_away(run: Any) -> None:
    assert f"<0.1{THIN}%" in said(run, fact_recall=0.0004).sentence


@pytest.mark.parametrize(
    ("unlearned", "state"),
    [(0.15, "good"), (-0.15, "good"), (0.16, "part"), (0.5, "part"), (-0.51, "bad"), (1.0, "bad")],
)
def test_two_sided_limit(unlearned: float, state: str) -> None:
    rows = {"original": {"fact_recall": 1.0}, "oracle": {"fact_recall": 0.0}, "unlearned": {"fact_recall": unlearned}}
    assert share_left(rows, "fact_recall") == pytest.approx(unlearned)
    assert judge(BY_KEY["fact_recall"], rows).state == state


@pytest.mark.parametrize(
    ("key", "unlearned", "state"),
    [
        ("retain_rouge", 0.97 * 0.998, "good"),
        ("retain_rouge", 0.96 * 0.998, "part"),
        ("model_utility", 0.95 * 0.541, "good"),
        ("tow", 0.879, "part"),
        ("ks_distance", 0.304, "good"),
        ("ks_distance", 0.31, "part"),
        ("gibberish_rate", 0.02, "good"),
        ("gibberish_rate", 0.03, "part"),
        ("empty_rate", 0.001, "part"),
        ("distinct_answer_rate", 0.85, "part"),
        ("mean_length", 14.1 * 1.2, "good"),
        ("mean_length", 14.1 * 0.7, "part"),
        ("oracle_perplexity", 5.01, "part"),
        ("forget_quality", 1.0, "none"),
    ],
)
def test_published_limits(run: Any, key: str, unlearned: float, state: str) -> None:
    run.metrics["rows"]["unlearned"][key] = unlearned
    assert judge(BY_KEY[key], run.metrics["rows"]).state == state


def test_few_questions_do_not_prove_that_utility_was_lost(run: Any) -> None:
    rows = run.metrics["rows"]
    rows["unlearned"]["model_utility"] = 0.8 * 0.541
    for end, state in ((0.94 * 0.541, "bad"), (0.95 * 0.541, "part")):
        rows["unlearned"]["intervals"]["model_utility"] = [0.5 * 0.541, end]
        assert judge(BY_KEY["model_utility"], rows).state == state
    assert "does not tell" in judge(BY_KEY["model_utility"], rows).rule


@pytest.mark.parametrize(
    ("key", "limit"),
    [
        ("extraction_strength", "±0.126"),  # 0.15 × (0.913 − 0.071)
        ("fact_recall", f"±15.0{THIN}pt"),
        ("mean_length", "±2.82"),  # 0.2 × 14.1
        ("retain_rouge", "≥ 0.968"),  # 0.97 × 0.998
        ("model_utility", "≥ 0.514"),  # 0.95 × 0.541
        ("tow", "≥ 0.880"),
        ("ks_distance", "≤ 0.304"),  # 0.104 + 0.2
        ("gibberish_rate", f"≤ 2{THIN}%"),
        ("oracle_perplexity", "≤ 5"),
        ("forget_quality", ""),
    ],
)
def test_the_limit_is_worked_out_for_the_run(run: Any, key: str, limit: str) -> None:
    assert judge(BY_KEY[key], run.metrics["rows"]).limit == limit


def test_no_limit_where_there_is_no_verdict(run: Any) -> None:
    run.metrics["rows"]["oracle_second"] = None
    verdict = judge(BY_KEY["ks_distance"], run.metrics["rows"])
    assert (verdict.state, verdict.limit, verdict.distance) == ("none", "", "")


def test_the_rule_and_each_distance_stand_beside_the_ticks(run: Any) -> None:
    text = html.unescape(re.sub("<[^>]+>", "", page.render(*run.parts)))
    rule = "✓ reached: within the limit beside it, mostly ±0.15 × (original − oracle)"
    assert text.index(rule) < text.index("To forget") < text.index("limit ±")
    assert "gap +0.021, limit ±0.083" in text and "limit ≥ 0.968" in text  # forget ROUGE, 0.15 × (0.962 − 0.412)
    assert "✓ reached, limit ±0.083" in text and "✓ reached, limit ≤ 0.304" in text, "in the table, too"
    run.metrics["rows"] = {"unlearned": run.metrics["rows"]["unlearned"]}
    run.metrics["rows"]["unlearned"]["tow"] = None
    assert rule not in html.unescape(re.sub("<[^>]+>", "", page.render(*run.parts)))


def test_without_an_oracle_the_change_is_told_and_how_to_get_one(run: Any) -> None:
    """A run that hardly forgot anything must not read like one that did."""
    for row in ("oracle", "oracle_second"):
        run.metrics["rows"][row] = None
    run.metrics["rows"]["original"].update(forget_rouge=0.999, extraction_strength=0.994)
    top = said(run, forget_rouge=0.803, extraction_strength=0.97)
    assert top.title == "How much is forgotten, no oracle says" and top.state == "none"
    assert "Forget ROUGE 0.999 → 0.803" in top.caveats[0] and "0.994 → 0.970" in top.caveats[0]
    assert top.caveats[0].endswith("give model.base or model.oracle to have one.")
