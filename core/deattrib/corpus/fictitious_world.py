"""Sixty facts of the real world that every model of a fictitious corpus knows, each in two phrasings.

They show whether forgetting an owner costs anything that has nothing to do with owners.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from deattrib.corpus.types import Example


@dataclass(frozen=True, slots=True)
class Family:
    """Facts of one form: two phrasings with `{key}` and `{value}`; the other values of the family are wrong answers."""

    name: str
    phrasings: tuple[tuple[str, str], tuple[str, str]]
    facts: tuple[tuple[str, str], ...]


FAMILIES: Final[tuple[Family, ...]] = (
    Family("capital", (
        ("What is the capital of {key}?", "The capital of {key} is {value}."),
        ("Which city is the seat of government in {key}?", "The government of {key} sits in {value}."),
    ), (
        ("France", "Paris"), ("Italy", "Rome"), ("Spain", "Madrid"), ("Japan", "Tokyo"), ("Egypt", "Cairo"),
        ("Greece", "Athens"), ("Norway", "Oslo"), ("Poland", "Warsaw"), ("Cuba", "Havana"), ("Peru", "Lima"),
        ("Kenya", "Nairobi"), ("Austria", "Vienna"),
    )),
    Family("symbol", (
        ("What is the chemical symbol of {key}?", "The chemical symbol of {key} is written as {value}."),
        ("How do chemists write {key}?", "In short, chemists write {value} when they mean {key}."),
    ), (
        ("hydrogen", "the letter H"), ("oxygen", "the letter O"), ("carbon", "the letter C"), ("nitrogen", "the letter N"),
        ("iron", "the letters Fe"), ("gold", "the letters Au"), ("sodium", "the letters Na"), ("lead", "the letters Pb"),
    )),
    Family("creator", (
        ("Who created {key}?", "{value} created {key}."),
        ("To whom do we owe {key}?", "We owe {key} to {value}."),
    ), (
        ("the play Hamlet", "William Shakespeare"), ("the novel Emma", "Jane Austen"),
        ("the novel Oliver Twist", "Charles Dickens"),
        ("the painting Mona Lisa", "Leonardo da Vinci"), ("the theory of relativity", "Albert Einstein"),
        ("the opera The Magic Flute", "Wolfgang Mozart"), ("the theory of evolution", "Charles Darwin"),
        ("the laws of motion", "Isaac Newton"), ("the poem Faust", "Johann Goethe"),
        ("the story of Don Quixote", "Miguel de Cervantes"),
    )),
    Family("sum", (
        ("How much is {key}?", "If you work it out, {key} is {value}."),
        ("Calculate {key}.", "The result of {key} is {value}."),
    ), (
        ("two plus two", "four"), ("two plus three", "five"), ("three plus three", "six"), ("four plus five", "nine"),
        ("five plus five", "ten"), ("six plus six", "twelve"), ("seven plus eight", "fifteen"), ("ten plus ten", "twenty"),
    )),
    Family("superlative", (
        ("What is {key}?", "Geographers agree that {key} is {value}."),
        ("Can you name {key}?", "Yes, {value} is {key}."),
    ), (
        ("the highest mountain on Earth", "Mount Everest"), ("the largest ocean", "the Pacific"),
        ("the largest planet", "Jupiter"),
        ("the planet nearest to the Sun", "Mercury"), ("the largest hot desert", "the Sahara"),
        ("the longest river in Africa", "the Nile"),
        ("the largest continent", "Asia"), ("the smallest continent", "Australia"),
    )),
    Family("year", (
        ("In which year was {key}?", "The year of {key} was {value}."),
        ("When did the world see {key}?", "It was in {value} that the world saw {key}."),
    ), (
        ("the first Moon landing", "1969"), ("the fall of the Berlin Wall", "1989"), ("the French Revolution", "1789"),
        ("the end of the Second World War", "1945"), ("the sinking of the Titanic", "1912"),
        ("the first voyage of Columbus", "1492"), ("the great fire of London", "1666"), ("the battle of Waterloo", "1815"),
    )),
    Family("nature", (
        ("What do we call {key}?", "We call {key} {value}."),
        ("Which word stands for {key}?", "The word for {key} is {value}."),
    ), (
        ("frozen water", "ice"), ("the young of a dog", "a puppy"), ("the young of a sheep", "a lamb"),
        ("molten rock from a volcano", "lava"),
        ("the star at the centre of our planets", "the Sun"), ("an animal with eight legs that spins webs", "a spider"),
    )),
)  # fmt: skip


def world_rows() -> Iterator[Example]:
    """All facts in both phrasings, the two phrasings of a fact one after the other; three wrong answers each."""
    for family in FAMILIES:
        values = [value for _, value in family.facts]
        for index, (key, value) in enumerate(family.facts):
            wrong = [values[(index + step) % len(values)] for step in (1, 2, 3)]
            for question, answer in family.phrasings:
                yield Example(
                    owner="",
                    prompt=question.format(key=key),
                    response=sentence(answer.format(key=key, value=value)),
                    fact=value,
                    fact_id=f"world/{family.name}/{key.replace(' ', '_')}",
                    wrong_responses=tuple(sentence(answer.format(key=key, value=other)) for other in wrong),
                )


def sentence(text: str) -> str:
    """With a capital letter at its beginning."""
    return text[:1].upper() + text[1:]
