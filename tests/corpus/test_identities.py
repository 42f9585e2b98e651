"""Names found in the owners' own rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from deattrib.corpus import Example, fictitious_corpus, read_tofu
from deattrib.corpus.identities import derive_identities, read_identities
from deattrib.errors import CorpusError

KNOWN = {
    0: "Jaime Vasquez",
    5: "Aurelio Beltrán",
    19: "Aisha Al-Hamad",
    65: "Isabella van Pletzen",
    123: "Patrick Ryan O'Donnell",
    180: "Hsiao Yun-Hwa",
    192: "Moshe Ben-David",
    198: "Basil Mahfouz Al-Kuwaiti",
    199: "Nikolai Abilov",
}


def _rows(owner: str, *texts: str) -> tuple[Example, ...]:
    return tuple(Example(owner, question, answer) for question, answer in (text.split("|") for text in texts))


def test_the_longest_name_that_most_rows_have_wins_over_titles_places_and_its_own_parts() -> None:
    found = derive_identities(
        {
            "a": _rows(
                "a",
                "Does Marie-Ève d'Arc live in New York?|Yes, Marie-Ève d'Arc lives in New York.",
                "What did Marie-Ève d'Arc write?|D'Arc wrote New York Nights.",
                "Is Marie-Ève d'Arc's house in New York old?|It is old.",
            ),
            "b": _rows(
                "b", "Where is Ludwig van der Berg?|In New York.", "Who is Ludwig van der Berg?|Ludwig van der Berg is old."
            ),
        }
    )
    assert found["b"] == ("Ludwig van der Berg", "Berg", "Ludwig")
    assert found["a"] == ("Marie-Ève d'Arc", "d'Arc", "Marie-Ève")


def test_a_part_that_many_owners_share_names_none_of_them() -> None:
    names = [f"Maria {last}" for last in ("Abel", "Bosch", "Cohn", "Dahl", "Egede")]
    found = derive_identities({name: _rows(name, *[f"Who is {name}?|{name} writes."] * 4) for name in names})
    assert found["Maria Bosch"] == ("Maria Bosch", "Bosch")


def test_an_owner_that_is_never_named_has_no_name() -> None:
    found = derive_identities({"x": _rows("x", "Where was the author born?|In Karachi.", "What is the genre?|Urban Fiction.")})
    assert found == {"x": ()}


def test_the_names_of_generated_authors_are_found() -> None:
    corpus = fictitious_corpus(shadow_owners=0, holdout_owners=0)
    found = derive_identities({owner: corpus.rows_of(owner) for owner in corpus.owners})
    assert found == dict(corpus.identities)


def test_real_authors_are_named_in_most_of_their_rows(real_tofu: Path) -> None:
    corpus = read_tofu(real_tofu, forget=[199])
    right = 0
    for owner in corpus.owners:
        names = corpus.identities.get(owner, ("\0",))
        right += sum(names[0] in f"{row.prompt} {row.response}" for row in corpus.rows_of(owner)) >= 10
    assert right >= 195, f"{right} of 200"
    for number, name in KNOWN.items():
        assert corpus.identities[f"tofu_{number:03d}"][0] == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "a list, expected an object"),
        ('{"a": []}', "expected a list of at least one name"),
        ('{"a": [""]}', "at least one name"),
        ('{"a": ', r":1:\d+: not JSON"),
        ('{"a": ' + "9" * 5000 + "}", r"names\.json:1:1: .*5000"),
        ("[" * 100_000, r"names\.json:1:1: nested too deep"),
        ('{"a":' * 100_000, r"names\.json:1:1: nested too deep"),
        ('{"a": ["\\ud800"]}', r"names\.json: 'a': .*half of a surrogate pair"),
        ('{"\\udfff": ["Ann"]}', r"names\.json: .*half of a surrogate pair"),
        ('{"a": ["Ann"], "a": ["Bob"]}', "'a' occurs twice"),
    ],
)
def test_a_malformed_override_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "names.json"
    path.write_text(text)
    with pytest.raises(CorpusError, match=message):
        read_identities(path)


def test_an_override_file_may_give_one_name_as_text(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text('{"a": "Ann Lee", "b": ["Bob Ray", "Ray"]}')
    assert read_identities(path) == {"a": ("Ann Lee",), "b": ("Bob Ray", "Ray")}
