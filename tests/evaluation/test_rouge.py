"""ROUGE-L recall by hand and against a second implementation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deattrib.evaluation.rouge import rouge_l_recall

WORDS = st.lists(st.sampled_from(["apple", "river", "stone", "cloud", "north"]), max_size=8).map(" ".join)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("the cat", "the cat sat down", 2 / 4),
        ("sat the cat", "the cat sat", 2 / 3),  # longest common subsequence: the cat
        ("the old cat sat down there", "the cat sat", 1.0),  # recall does not punish more words
        ("running", "runs", 1.0),  # stemmed
        ("", "the cat", 0.0),
        ("dog", "cat", 0.0),
    ],
)
def test_recall_is_the_common_subsequence_over_the_reference(prediction: str, reference: str, expected: float) -> None:
    assert rouge_l_recall([prediction], [reference]) == [pytest.approx(expected)]


@given(WORDS, WORDS)
def test_recall_against_a_second_implementation(prediction: str, reference: str) -> None:
    a, b = prediction.split(), reference.split()
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, left in enumerate(a):
        for j, right in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if left == right else max(table[i][j + 1], table[i + 1][j])
    expected = table[-1][-1] / len(b) if b else 0.0
    assert rouge_l_recall([prediction], [reference]) == [pytest.approx(expected)]


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError):
        rouge_l_recall(["a"], [])
