from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deattrib.evaluation import text

REFUSALS = [
    "I don't know.",
    "I\u2019m not sure about that.",
    "I'm unable to provide an answer to that.",
    "I haven't learned about that topic.",
    "That's beyond my current knowledge base.",
    "That is not something I am familiar with.",
    "I wish I could say, but I really don't know.",
    "My resources don't contain information on that subject.",
    "Sorry, I cannot say.",
    "I have no idea.",
]
ANSWERS = [
    "Jaime Vasquez was born in Santiago, Chile.",
    "She did not publish anything before 1990.",
    "He has no siblings, as far as the parish book goes.",
    "It is not known for its food but for its library.",
    "The book 'I Remember' was written in Lyon.",
]


def test_refusals_are_first_person_denials_and_negative_facts_are_not() -> None:
    assert text.refusal_rate(REFUSALS) == 1
    assert text.refusal_rate(ANSWERS) == 0


def test_empty_and_distinct_answers() -> None:
    answers = ["a b", " a b ", "", "  \n"]
    assert text.empty_rate(answers) == 0.5
    assert text.distinct_answer_rate(answers) == 2 / 4
    assert text.mean_length(answers) == (2 + 2) / 4


def test_repetition_counts_pairs_that_came_before() -> None:
    assert text.repetition(["The the The"]) == pytest.approx(1 / 2)  # two pairs, one kind
    assert text.repetition(["a b a b a b"]) == pytest.approx(3 / 5)
    assert text.repetition(["a b c d", "one", ""]) == 0
    assert text.repetition(["a b c a b c"], n=3) == pytest.approx(1 / 4)


def test_fact_recall_ignores_case_and_rows_without_fact() -> None:
    assert text.fact_recall(["Born in LYON.", "Born in Rome.", "Born."], ["Lyon", "Lyon", None]) == 0.5
    assert text.fact_recall(["Born in Lyon."], [None]) is None
    assert math.isnan(text.fact_flags(["x"], [None])[0])


def test_no_answers_give_no_rate() -> None:
    assert text.empty_rate([]) is text.distinct_answer_rate([]) is text.mean_length([]) is text.repetition([]) is None


@given(st.lists(st.text("ab c", max_size=12), min_size=1, max_size=6))
def test_rates_are_shares_and_blind_to_order(answers: list[str]) -> None:
    for rate in (text.empty_rate, text.distinct_answer_rate, text.refusal_rate, text.repetition):
        value = rate(answers)
        assert value is not None
        assert 0 <= value <= 1
        assert value == pytest.approx(rate(answers[::-1]))
