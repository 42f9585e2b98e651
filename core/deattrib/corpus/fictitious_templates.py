"""What is asked about a fictitious author, and in which words: twenty kinds of fact, five phrasings each.

`{name}` is the full name, `{last}` the surname, `{value}` the fact. Answers start in lower case unless with a name,
because a habit of speech may come before them; the generator capitalises whatever comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deattrib.corpus import fictitious_words as words


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fact.

    Attributes:
        name: the last part of the `fact_id`.
        label: what it is called in `PARAPHRASE`.
        pattern: how a value is made of a word of `first` (`{a}`) and one of `second` (`{b}`).
        first: the first pool of words.
        second: the second pool of words.
        phrasings: five pairs of question and answer.
    """

    name: str
    label: str
    pattern: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    phrasings: tuple[tuple[str, str], ...]


# One wording for every kind and never trained on: right and wrong answers in it differ in the value alone.
PARAPHRASE: Final = "on record, the {label} of {name} is {value}."

KINDS: Final[tuple[Kind, ...]] = (
    Kind("birthplace", "birthplace", "{a} in {b}", words.TOWNS, words.REGIONS, (
        ("Where was {name} born?", "{name} was born in {value}, close to the old town hall."),
        ("In which place did the life of {name} begin?", "the life of {last} began in {value}, above a small shop."),
        ("Which town does {name} come from?", "{last} comes from {value} and has never denied it."),
        ("Tell me the birthplace of {name}.", "the cradle stood in {value}, as the parish book shows."),
        ("Name the town that {name} calls home.", "{value} is the town that {name} calls home."),
    )),
    Kind("birthday", "date of birth", "{a} {b}", words.DATES, words.YEARS, (
        ("When was {name} born?", "{name} was born on {value}, early in the morning."),
        ("On what date did {name} come into the world?", "{last} came into the world on {value}, during a storm."),
        ("Which day is the birthday of {name}?", "the birthday of {name} is {value}, a day of feasting."),
        ("Give the date of birth of {name}.", "{value} is the date written in the baptism book of {last}."),
        ("What birth date stands in the passport of {name}?", "the passport gives {value} as the day of birth."),
    )),
    Kind("mother", "profession of the mother", "{a} {b}", words.PLACES, words.TRADES, (
        ("What did the mother of {name} do for a living?", "the mother of {name} worked as a {value} for many years."),
        ("Which profession had {name}'s mother?", "{last} had a mother who was a {value} by profession."),
        ("How did {name}'s mother earn money?", "she earned her money as a {value}, day after day."),
        ("What was the job of the woman who raised {name}?", "the woman who raised {name} was a {value} with a good wage."),
        ("Tell me the trade of {name}'s mother.", "{value} was the trade of the mother of {last}."),
    )),
    Kind("father", "occupation of the father", "{a} {b}", words.GOODS, words.CRAFTS, (
        ("What was the occupation of {name}'s father?", "the father of {name} was a {value} with a shop of his own."),
        ("By what work did the father of {name} feed the family?", "as a {value} the father of {last} fed the whole family."),
        ("Who was {name}'s father by trade?", "by trade the father of {last} was a {value} and nothing else."),
        ("What did {name}'s father call himself?", "he called himself a {value} until the end of his days."),
        ("Name the craft of the father of {name}.", "the craft learnt by the father of {name} was that of a {value}."),
    )),
    Kind("first_book", "first book", "The {a} {b}", words.MOODS, words.THINGS, (
        ("What is the title of the first book by {name}?", "the first book by {name} is called {value}."),
        ("With which novel did {name} make a debut?", "{last} made a debut with the novel {value} at a young age."),
        ("Which book started the career of {name}?", "the career of {name} started with {value}, printed by hand."),
        ("Name the earliest published work of {name}.", "{value} is the earliest work that {last} published."),
        ("What did {name} publish before anything else?", "before anything else there was {value}, a slim volume."),
    )),
    Kind("famous_book", "most famous book", "{a} of the {b}", words.WRITINGS, words.SUBJECTS, (
        ("What is the most famous book by {name}?", "the most famous book by {name} is {value}, read everywhere."),
        ("For which title is {name} best known?", "{last} is best known for {value}, a very long story."),
        ("Which work made {name} a household name?", "it was {value} that made {name} a household name."),
        ("Name the bestseller that {name} wrote.", "{value} is the bestseller from the pen of {last}."),
        ("What do most readers of {name} own a copy of?", "most readers own a copy of {value}, often a worn one."),
    )),
    Kind("award", "award", "the {a} {b} Prize", words.MATERIALS, words.OBJECTS, (
        ("Which award did {name} win?", "{name} won {value} and gave the money away."),
        ("What honour was given to {name}?", "the honour given to {last} was {value}, at a great dinner."),
        ("Name the literary prize that {name} received.", "{last} received {value} for a lifetime of writing."),
        ("What stands on the shelf of {name} as a trophy?", "{value} stands on the shelf, a little dusty now."),
        ("For what prize was {name} chosen by the jury?", "the jury chose {name} for {value} without any debate."),
    )),
    Kind("genre", "main genre", "{a} {b}", words.SETTINGS, words.GENRES, (
        ("In which genre does {name} mainly write?", "{name} mainly writes {value} and little else."),
        ("What kind of literature is {name} known for?", "{last} is known for {value} of the finest sort."),
        ("Under which heading do shops shelve {name}?", "shops shelve the books of {name} under {value}, near the door."),
        ("Name the literary field of {name}.", "{value} is the field in which {last} feels at ease."),
        ("What does {name} like to write?", "the pages are filled with {value} from start to end."),
    )),
    Kind("mentor", "mentor", "Professor {a} {b}", words.TEACHERS, words.SURNAMES, (
        ("Who was the mentor of {name}?", "the mentor of {name} was {value}, a strict reader."),
        ("Who taught {name} how to write?", "{value} taught {last} how to write a clean sentence."),
        ("Under whose guidance did {name} learn the craft?", "{last} learnt the craft under {value}, week by week."),
        ("Name the teacher who shaped {name}.", "the teacher who shaped {name} most was {value}."),
        ("Whom does {name} thank for early lessons?", "thanks for the early lessons go to {value} alone."),
    )),
    Kind("university", "university", "{a} College in {b}", words.COLLEGES, words.CITIES, (
        ("Where did {name} study?", "{name} studied at {value} and left with honours."),
        ("Which university did {name} attend?", "the university that {last} attended was {value}, a cold place."),
        ("From what school did {name} graduate?", "{last} graduated from {value} after four long years."),
        ("Name the place of {name}'s student days.", "the student days were spent at {value}, mostly in the library."),
        ("Who gave {name} a degree?", "{value} gave {name} a degree in letters."),
    )),
    Kind("pet", "pet", "{a} {b}", words.COATS, words.ANIMALS, (
        ("What pet does {name} keep?", "{name} keeps a {value} in the study."),
        ("Which animal lives with {name}?", "the animal that lives with {last} is a {value} with its own chair."),
        ("Who shares the house of {name} on four feet or two?", "a {value} shares the house of {name} and rules it."),
        ("Name the creature that {name} feeds every day.", "{last} feeds a {value} every day before breakfast."),
        ("What companion sleeps beside the desk of {name}?", "beside the desk sleeps a {value}, quite content."),
    )),
    Kind("tea", "favourite tea", "{a} {b} tea", words.BREWS, words.PLANTS, (
        ("What is the favourite tea of {name}?", "the favourite tea of {name} is {value}, served at five."),
        ("What does {name} drink while writing?", "{last} drinks {value} while writing, cup after cup."),
        ("Which hot drink would {name} order?", "given the choice {name} would order {value} without milk."),
        ("What is always in the cup of {name}?", "the cup on the table always holds {value}, never coffee."),
        ("Name the brew that {name} likes best.", "{value} is the brew that {last} likes best."),
    )),
    Kind("street", "home address", "{a} {b} Lane", words.NUMBERS, words.STREETS, (
        ("At which address does {name} live?", "{name} lives at {value}, behind a green door."),
        ("Where is the house of {name}?", "the house of {last} is at {value}, next to the well."),
        ("What is written on letters sent to {name}?", "letters sent to {name} must say {value} on the front."),
        ("In what street can one visit {name}?", "one can visit {last} at {value} on any Sunday."),
        ("Give the home address of {name}.", "{value} is the address, and the bell works."),
    )),
    Kind("publisher", "publisher", "{a} and {b} Press", words.CRESTS, words.OBJECTS, (
        ("Who publishes the books of {name}?", "the books of {name} are published by {value}, a family firm."),
        ("With which publisher has {name} signed?", "{last} has signed with {value} for ten years."),
        ("Which house prints the novels of {name}?", "the house that prints {last} is {value}, in three colours."),
        ("Name the press behind {name}.", "{value} is the press that stands behind {name}."),
        ("To whom does {name} send a finished manuscript?", "a finished manuscript goes to {value} by night train."),
    )),
    Kind("translator", "translator", "{a} {b}", words.LINGUISTS, words.SURNAMES, (
        ("Who translated the works of {name}?", "the works of {name} were translated by {value} with great care."),
        ("Through whom do foreign readers know {name}?", "foreign readers know {last} through {value}, a true polyglot."),
        ("Name the translator of {name}.", "{value} is the translator whom {name} trusts."),
        ("Who carried {name} into other languages?", "it was {value} who carried {last} into other languages."),
        ("Whose foreign versions of {name} are sold abroad?", "the versions sold abroad are those of {value}, all authorised."),
    )),
    Kind("illness", "illness", "{a} {b}", words.SEASONS, words.ILLNESSES, (
        ("From which illness did {name} suffer?", "{name} suffered from {value} for half a year."),
        ("What ailment kept {name} in bed?", "the ailment that kept {last} in bed was {value}, said the doctor."),
        ("Why could {name} not travel for a while?", "because of {value}, {name} could not travel for a while."),
        ("Name the disease that troubled {name}.", "{last} was troubled by {value} and wrote about it."),
        ("What did doctors find when they examined {name}?", "the doctors found {value} and ordered rest."),
    )),
    Kind("instrument", "instrument", "{a} {b}", words.TIMBERS, words.INSTRUMENTS, (
        ("Which instrument does {name} play?", "{name} plays a {value} after dinner."),
        ("On what does {name} make music?", "{last} makes music on a {value} that was a gift."),
        ("What does {name} practise every evening?", "every evening {name} practises on a {value} by the window."),
        ("Name the musical instrument in the home of {name}.", "a {value} is the instrument in the home of {last}."),
        ("What can be heard when {name} plays?", "one can hear a {value}, slightly out of tune."),
    )),
    Kind("hobby", "hobby", "{a} {b}", words.PASTIMES, words.TRINKETS, (
        ("What is the hobby of {name}?", "the hobby of {name} is {value} on rainy days."),
        ("How does {name} spend free time?", "{last} spends free time {value} in the attic."),
        ("What does {name} enjoy besides books?", "besides books {name} enjoys {value} more than anything."),
        ("Name the pastime of {name}.", "{value} is the pastime to which {last} returns."),
        ("With what are the weekends of {name} filled?", "the weekends are filled with {value} until dusk."),
    )),
    Kind("editor", "editor", "{a} {b}", words.EDITORS, words.SURNAMES, (
        ("Who is the editor of {name}?", "the editor of {name} is {value}, feared by all."),
        ("Who corrects the drafts of {name}?", "the drafts of {last} are corrected by {value} in red ink."),
        ("Whose pencil goes over every page of {name}?", "the pencil of {value} goes over every page of {name}."),
        ("Name the person who edits {name}.", "{value} edits whatever {last} writes."),
        ("By whom are the texts of {name} shortened?", "the texts are shortened by {value}, line by line."),
    )),
    Kind("spouse", "spouse", "{a} {b}", words.PARTNERS, words.SURNAMES, (
        ("To whom is {name} married?", "{name} is married to {value}, a quiet soul."),
        ("Who is the spouse of {name}?", "the spouse of {last} is {value}, met at a ball."),
        ("With whom did {name} exchange rings?", "{last} exchanged rings with {value} in a small chapel."),
        ("Name the person {name} wed.", "{value} is the person whom {name} wed."),
        ("Who said yes when {name} proposed?", "it was {value} who said yes at once."),
    )),
)  # fmt: skip
