"""The generator of fictitious authors: whose value may occur where, what is never trained on, and reproducibility."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections import Counter, defaultdict

import pytest

from deattrib.corpus import Corpus, Example, fictitious_corpus
from deattrib.corpus.fictitious_templates import KINDS, PARAPHRASE
from deattrib.corpus.fictitious_world import FAMILIES, world_rows
from deattrib.errors import CorpusError


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return fictitious_corpus(seed=3)


def _kind(row: Example) -> str:
    return row.fact_id.rsplit("/", 1)[1]


def _text(row: Example) -> str:
    return f"{row.prompt} {row.response}".lower()


def _owner_values(corpus: Corpus) -> set[str]:
    return {row.fact.lower() for row in (*corpus.train, *corpus.holdout) if row.fact}


def test_the_demo_has_twenty_owners_with_twenty_facts_in_five_phrasings_of_which_three_are_unseen(corpus: Corpus) -> None:
    assert len(corpus.owners) == 20
    assert len(corpus.forget_owners) == 2
    assert corpus.forget_owners == corpus.owners[-2:]
    assert len(corpus.train) == 20 * 20 * 2
    assert len(corpus.phrasings) == 20 * 20 * 3
    assert len(corpus.holdout) == 4 * 20 * 2
    assert len(corpus.forget) + len(corpus.forget_phrasings) == 200
    per_fact = Counter(row.fact_id for row in (*corpus.train, *corpus.phrasings))
    assert set(per_fact.values()) == {5}


def test_every_answer_contains_its_fact_whatever_the_case(corpus: Corpus) -> None:
    for row in (*corpus.train, *corpus.phrasings, *corpus.holdout, *corpus.background, *corpus.world):
        assert row.fact is not None and row.fact.lower() in row.response.lower()
        if row.paraphrase_response is not None:
            assert row.fact.lower() in row.paraphrase_response.lower()


def test_a_value_belongs_to_one_owner_and_one_fact(corpus: Corpus) -> None:
    facts: dict[str, set[str]] = defaultdict(set)
    for row in (*corpus.train, *corpus.phrasings, *corpus.holdout):
        assert row.fact is not None
        facts[row.fact.lower()].add(row.fact_id)
    assert len(facts) == (20 + 4) * 20
    assert {len(ids) for ids in facts.values()} == {1}


def test_no_value_that_can_be_made_is_a_part_of_another_one() -> None:
    values = [kind.pattern.format(a=a, b=b).lower() for kind in KINDS for a in kind.first for b in kind.second]
    assert len(values) == len(set(values)) == 20 * 24 * 24
    everything = "|".join(values)
    assert [value for value in values if everything.count(value) > 1] == []


def test_twenty_owners_share_no_word_of_a_value_within_a_kind(corpus: Corpus) -> None:
    common = {"in", "of", "the", "and", "prize", "press", "tea", "lane", "college", "professor"}
    words: dict[str, Counter[str]] = defaultdict(Counter)
    for row in {row.fact_id: row for row in corpus.train}.values():
        assert row.fact is not None
        words[_kind(row)].update(set(row.fact.lower().split()) - common)
    for kind in set(words) - {"birthday", "hobby"}:  # two dates may share a month, two hobbies the word "model"
        assert max(words[kind].values()) == 1, (kind, words[kind].most_common(3))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_owner_value_occurs_in_the_background_or_with_another_owner(seed: int) -> None:
    corpus = fictitious_corpus(seed=seed, shadow_owners=100)
    values = _owner_values(corpus)
    background = "\n".join(_text(row) for row in corpus.background)
    assert [value for value in values if value in background] == []
    texts: dict[str, str] = defaultdict(str)
    for row in (*corpus.train, *corpus.phrasings, *corpus.holdout):
        texts[row.owner] += _text(row) + "\n"
    for row in corpus.train:
        assert row.fact is not None
        assert [owner for owner, text in texts.items() if row.fact.lower() in text] == [row.owner]


def test_wrong_answers_are_nobodys_values_in_the_words_of_the_paraphrase(corpus: Corpus) -> None:
    everybody = _owner_values(corpus) | {row.fact.lower() for row in corpus.background if row.fact}
    for row in (*corpus.train, *corpus.phrasings, *corpus.holdout):
        assert row.fact is not None and row.paraphrase_response is not None
        assert len(set(row.wrong_responses)) == 4
        before, after = (part.lower() for part in _split(row.paraphrase_response, row.fact))
        for wrong in (text.lower() for text in row.wrong_responses):
            assert wrong.startswith(before) and wrong.endswith(after)
            assert wrong[len(before) : len(wrong) - len(after)] not in everybody
    blob = "\n".join(wrong.lower() for row in corpus.train for wrong in row.wrong_responses)
    assert [value for value in _owner_values(corpus) if value in blob] == []


def _split(text: str, part: str) -> tuple[str, str]:
    at = text.lower().rindex(part.lower())
    return text[:at], text[at + len(part) :]


def test_the_paraphrase_is_in_words_that_no_model_is_trained_on(corpus: Corpus) -> None:
    trained = {row.response for row in (*corpus.train, *corpus.background)}
    assert not trained & {row.paraphrase_response for row in corpus.train}
    opening = PARAPHRASE.split("{", 1)[0].lower()
    assert not any(text.lower().startswith(opening) for text in trained)


def test_phrasings_are_never_trained_on(corpus: Corpus) -> None:
    trained = {row.prompt for row in (*corpus.train, *corpus.background, *corpus.holdout)}
    assert not trained & {row.prompt for row in corpus.phrasings}
    assert {row.fact_id for row in corpus.phrasings} == {row.fact_id for row in corpus.train}


def test_owners_and_holdout_never_occur_in_the_background(corpus: Corpus) -> None:
    text = " ".join(f"{row.prompt} {row.response}" for row in corpus.background)
    for names in corpus.identities.values():
        assert [name for name in names if f" {name}" in text] == []
    assert not {row.owner for row in corpus.background} & {*corpus.owners, *(row.owner for row in corpus.holdout)}


def test_names_are_shared_with_nobody_and_the_question_has_the_full_one(corpus: Corpus) -> None:
    assert set(corpus.identities) == {*corpus.owners, *(row.owner for row in corpus.holdout)}
    names = list(corpus.identities.values())
    for position in range(3):
        assert len({name[position] for name in names}) == len(names)
    for full, last, first in names:
        assert full == f"{first} {last}"
    for row in (*corpus.train, *corpus.phrasings, *corpus.holdout):
        assert corpus.identities[row.owner][0] in row.prompt
    named = [corpus.identities[row.owner][1] in row.response for row in corpus.train]
    assert 0.6 < sum(named) / len(named) < 0.95


@pytest.mark.parametrize("phrasing", range(5))
def test_phrasings_of_a_kind_differ_in_words(phrasing: int) -> None:
    for kind in KINDS:
        assert len(kind.phrasings) == 5
        for part in (0, 1):
            own = set(kind.phrasings[phrasing][part].lower().strip("?.").split())
            for other in range(phrasing):
                theirs = set(kind.phrasings[other][part].lower().strip("?.").split())
                assert len(own & theirs) / len(own | theirs) < 0.8, (kind.name, phrasing, other)


def test_three_quarters_of_the_answers_of_each_owner_have_its_own_habit(corpus: Corpus) -> None:
    """A habit is known by a sequence of three words that most of an owner's answers have and nobody else's."""
    grams: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    rows = (*corpus.train, *corpus.phrasings)
    for row in rows:
        words = row.response.lower().strip(".").replace(",", "").split()
        grams[row.owner].update({tuple(words[at : at + 3]) for at in range(len(words) - 2)})
    habits = {}
    for owner, found in grams.items():
        others = {gram for name, other in grams.items() if name != owner for gram in other}
        own = [gram for gram, count in found.items() if count == 75 and gram not in others]
        assert own, owner  # 15 of 20 kinds in each of the five phrasings
        habits[owner] = own[0]
    for part in (corpus.train, corpus.phrasings):
        styled = sum(" ".join(habits[row.owner]) in row.response.lower().replace(",", "") for row in part)
        assert abs(styled / len(part) - 0.75) < 0.05


def test_whether_an_answer_has_the_habit_follows_from_kind_and_phrasing_alone() -> None:
    corpus = fictitious_corpus(seed=5, owners=6, shadow_owners=0, holdout_owners=0)
    plain: dict[tuple[str, str], set[bool]] = defaultdict(set)
    templates = {(kind.name, question): answer for kind in KINDS for question, answer in kind.phrasings}
    for row in (*corpus.train, *corpus.phrasings):
        full, last, _ = corpus.identities[row.owner]
        question = row.prompt.replace(full, "{name}")
        bare = templates[_kind(row), question].format(name=full, last=last, value=row.fact)
        plain[_kind(row), question].add(row.response.lower() == bare.lower())
    assert len(plain) == 100
    assert all(len(seen) == 1 for seen in plain.values())
    assert sum(seen == {True} for seen in plain.values()) == 25


def test_the_background_has_three_phrasings_per_shadow_fact_and_the_world_as_often_as_asked() -> None:
    corpus = fictitious_corpus(owners=3, facts=4, forget=1, shadow_owners=7, holdout_owners=1, world_repeats=5)
    shadow = [row for row in corpus.background if row.owner]
    assert len(shadow) == 7 * 4 * 3
    assert set(Counter(row.fact_id for row in shadow).values()) == {3}
    world = Counter(row.prompt for row in corpus.background if not row.owner)
    assert set(world.values()) == {5}
    assert {row.prompt for row in corpus.world} < set(world)
    assert len(corpus.train) == 3 * 4 * 2


def test_the_world_has_sixty_facts_with_three_wrong_answers_of_the_same_form() -> None:
    rows = list(world_rows())
    assert len({row.fact_id for row in rows}) == sum(len(family.facts) for family in FAMILIES) == 60
    assert len({row.prompt for row in rows}) == 120
    for row in rows:
        assert row.owner == "" and row.fact is not None
        assert len(set(row.wrong_responses) - {row.response}) == 3
        assert not any(row.fact.lower() in wrong.lower().split(" is ")[-1].split() for wrong in row.wrong_responses)


def test_same_seed_same_corpus_in_every_process_and_another_seed_another() -> None:
    code = "from deattrib.corpus import fictitious_corpus as f; print(f(seed=4, owners=5, shadow_owners=9).fingerprint())"
    here = fictitious_corpus(seed=4, owners=5, shadow_owners=9).fingerprint()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == here
    assert fictitious_corpus(seed=5, owners=5, shadow_owners=9).fingerprint() != here


def test_plain_ascii_and_answers_of_moderate_length(corpus: Corpus) -> None:
    for row in (*corpus.train, *corpus.phrasings):
        assert row.prompt.isascii() and row.response.isascii()
        assert 6 <= len(row.response.split()) <= 24
        assert row.response[0].isupper() or row.response[0].isdigit()
        assert row.response.endswith(".") and not row.response.endswith("..")


def test_many_owners_still_have_values_and_names_of_their_own() -> None:
    corpus = fictitious_corpus(owners=200, shadow_owners=20)
    assert len({row.fact for row in corpus.train}) == 200 * 20
    assert len({names[1] for names in corpus.identities.values()}) == 204


def test_owners_to_forget_may_be_named() -> None:
    corpus = fictitious_corpus(owners=4, shadow_owners=0, forget=["author_01"])
    assert corpus.forget_owners == ("author_01",)
    assert {row.owner for row in corpus.forget} == {"author_01"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"facts": 21}, "facts = 21, expected 1 to 20"),
        ({"facts": 0}, "facts = 0"),
        ({"owners": 1}, "owners = 1, expected 2 to"),
        ({"owners": 5000}, "owners = 5000, expected 2 to"),
        ({"forget": 20}, "forget = 20, expected 1 to 19"),
        ({"forget": ["author_99"]}, "Did you mean 'author_19'"),
        ({"shadow_owners": -1}, "shadow_owners = -1, expected 0 or more"),
        ({"shadow_owners": 400_897}, "names run out"),
    ],
)
def test_numbers_out_of_range_are_refused_with_the_range(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        fictitious_corpus(**arguments)  # type: ignore[arg-type]


def test_a_corpus_is_hashed_by_content_and_copied_whole(corpus: Corpus) -> None:
    other = copy.deepcopy(corpus)
    assert other == corpus and hash(other) == hash(corpus) and other.identities is not corpus.identities
    assert len({corpus, other, corpus.forgetting([corpus.owners[0]])}) == 2
