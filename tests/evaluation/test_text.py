"""Figures read from the answers alone: refusals, empty and equal answers, repetition, facts."""

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
    assert text.refusal_flags(REFUSALS).tolist() == [1] * len(REFUSALS)
    assert text.refusal_flags(ANSWERS).tolist() == [0] * len(ANSWERS)


def test_empty_and_distinct_answers() -> None:
    answers = ["a b", " a b ", "", "  \n"]
    assert text.empty_flags(answers).tolist() == [0, 0, 1, 1]
    assert text.distinct_answer_rate(answers) == 2 / 4


def test_repetition_counts_pairs_that_came_before() -> None:
    assert text.repetition_shares(["The the The"]) == pytest.approx([1 / 2])  # two pairs, one kind
    assert text.repetition_shares(["a b a b a b"]) == pytest.approx([3 / 5])
    assert text.repetition_shares(["a b c d", "one", ""]).tolist() == [0, 0, 0]
    assert text.repetition_shares(["a b c a b c"], n=3) == pytest.approx([1 / 4])


def test_facts_are_found_whatever_the_case_and_rows_without_one_do_not_count() -> None:
    assert text.fact_flags(["Born in LYON.", "Born in Rome."], ["Lyon", "Lyon"]).tolist() == [1, 0]
    assert math.isnan(text.fact_flags(["x"], [None])[0])


def test_no_answers_give_no_rate() -> None:
    assert text.distinct_answer_rate([]) is None
    assert len(text.empty_flags([])) == len(text.refusal_flags([])) == len(text.repetition_shares([])) == 0


@given(st.lists(st.text("ab c", max_size=12), min_size=1, max_size=6))
def test_rates_are_shares_and_blind_to_order(answers: list[str]) -> None:
    for flags in (text.empty_flags, text.refusal_flags, text.repetition_shares):
        values = flags(answers)
        assert ((values >= 0) & (values <= 1)).all()
        assert values.tolist() == flags(answers[::-1]).tolist()[::-1]
    assert text.distinct_answer_rate(answers) == text.distinct_answer_rate(answers[::-1])
