"""Passes over rows: each pass has every row once, and two integers say where it is."""

from __future__ import annotations

import random

import pytest
from tests.benchmarks.tiny import make_tokenizer

from deattrib.corpus.types import Example
from deattrib.models.language_model import Codec
from deattrib.ppo.data import Cycle, Shared, answered, graft, thin


def test_every_pass_has_every_row_once_in_another_order() -> None:
    cycle = Cycle(range(10), seed="a")
    passes = [cycle.draw(10) for _ in range(3)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) == 3


def test_batches_that_do_not_divide_the_rows_lose_none() -> None:
    cycle = Cycle(range(10), seed="a")
    drawn = [item for _ in range(10) for item in cycle.draw(3)]
    assert [drawn.count(item) for item in range(10)] == [3] * 10
    assert cycle.drawn == 30
    assert Cycle(range(2), seed="a").draw(5)[:2] in ([0, 1], [1, 0])


def test_the_seed_decides_and_the_state_continues() -> None:
    first, second, other = Cycle(range(9), seed="a"), Cycle(range(9), seed="a"), Cycle(range(9), seed="b")
    start = first.draw(13)
    assert start == second.draw(13) != other.draw(13)
    third = Cycle(range(9), seed="a")
    third.load_state_dict(first.state_dict())
    assert first.draw(20) == third.draw(20)


def test_nothing_cannot_be_drawn_from() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Cycle([], seed="a")


def test_words_left_out() -> None:
    """Half of the texts stay whole; of the others a quarter of the words goes on average, then half lose their beginning."""
    rng = random.Random(0)
    text = "one two three four five six seven eight"
    thinned = [thin(text, 0.5, rng) for _ in range(1000)]
    assert 0.45 < sum(one == text for one in thinned) / 1000 < 0.6
    order = {word: place for place, word in enumerate(text.split())}
    for one in thinned:
        places = [order[word] for word in one.split()]
        assert places and places == sorted(places)
    assert any(one.split()[0] == "eight" for one in thinned)
    assert thin(text, 0.0, rng) == text


def test_the_end_of_one_text_behind_the_beginning_of_another() -> None:
    rng = random.Random(0)
    text, frame = "one two three four", "a b c"
    made = [graft(text, frame, rng) for _ in range(500)]
    for whole, start in made:
        begun, own = whole[:start].split(), whole[start:].split()
        assert begun == frame.split()[: len(begun)] and own and own == text.split()[-len(own) :]
    assert {len(whole[:start].split()) for whole, start in made} == {0, 1, 2, 3}
    assert {len(whole[start:].split()) for whole, start in made} == {1, 2, 3, 4}


def test_pairs_that_others_say_too(tiny_codec: Codec) -> None:
    shared = Shared.of_answers(tiny_codec, ["the old town", "a new town"])
    batch = tiny_codec.encode(["?", "?"], ["the old town", "the new town"])
    known = shared.of(batch)
    assert bool(known[0][batch.response_mask[0]].all())
    new = tiny_codec.response(" new", end=False)[0]
    place = batch.response_lists()[1].index(new)
    assert not bool(known[1, place]) and bool(known[1, place + 1 : int(batch.response_lengths[1])].all())


def test_answers_need_no_prompt_of_their_own() -> None:
    """With no words around the prompt and no token at its begin, an empty prompt is no tokens at all."""
    codec = Codec(make_tokenizer(20), template="{prompt}")
    assert Shared.of_answers(codec, ["w4 w5"]).of(codec.encode(["w9"], ["w4 w5"])).all()


def test_whose_name_it_is_makes_no_difference(tiny_codec: Codec) -> None:
    names = ("Ada Lark", "Bo Finch")
    shared = Shared.of_answers(tiny_codec, ["the town of Ada Lark is old"], names)
    batch = tiny_codec.encode(["?", "?"], ["the town of Bo Finch is old", "the town of Bo Finch was old"])
    known = shared.of(batch)
    assert bool(known[0][batch.response_mask[0]].all())
    was = tiny_codec.response(" was", end=False)
    place = batch.response_lists()[1].index(was[0])
    assert bool(known[1, :place].all()) and not bool(known[1, place])


def test_rows_without_an_answer_are_left_out() -> None:
    rows = [Example("a", "Who?", ""), Example("a", "Why?", "")]
    assert answered(rows, ["Me.", ""]) == (Example("a", "Who?", "Me."),)


def test_thinning_never_takes_a_name_apart() -> None:
    rng = random.Random(0)
    text = "the pale poet Ada van Lint wrote of the sea and the hills"
    thinned = {thin(text, 0.6, rng, names=("Ada van Lint", "Lint")) for _ in range(300)}
    assert len(thinned) > 50
    for item in thinned:
        assert "Ada van Lint" in item or not {"Ada", "van", "Lint"} & set(item.split())
    assert thin("ask (Ada van Lint), now", 0.5, random.Random(1), names=("Ada van Lint",)) in (
        "ask (Ada van Lint), now", "(Ada van Lint), now", "(Ada van Lint),", "ask (Ada van Lint),", "now",
    )  # fmt: skip
