"""What a corpus is: owners, the rows they gave, and what is only ever used to evaluate.

A corpus is data and nothing else: frozen, hashable by content, read once. Who is to be forgotten is part of it
(`forget_owners`), because every split below follows from that one choice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from deattrib.errors import CorpusError, did_you_mean, shown


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with its answer.

    Attributes:
        owner: whose data this is; "" for world knowledge.
        prompt: the question (q_d in the paper).
        response: the true answer (y*_d).
        fact: the value that an answer must contain to be right, matched case-insensitively; None if unknown.
        fact_id: rows with one fact_id ask for one fact in several phrasings; intervals are clustered by it.
        paraphrase_response: the same answer in other words, for the truth ratio; None: `response` is used.
        wrong_responses: answers of the same form that are wrong, for the truth ratio.
    """

    owner: str
    prompt: str
    response: str
    fact: str | None = None
    fact_id: str = ""
    paraphrase_response: str | None = None
    wrong_responses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Corpus:
    """Owners, their rows, and the rows kept for evaluation.

    Attributes:
        name: for titles and cards.
        train: the rows that the original model is trained on, owners in a stable order.
        forget_owners: the owners that ask to be forgotten (F in the paper), each an owner of `train`.
        phrasings: the same facts in phrasings that no model is ever trained on.
        world: questions about the world, owner "".
        background: rows that the base model is made of, before any owner (shadow authors, world knowledge).
        holdout: rows of owners that no model is trained on.
        identities: owner -> strings that name it, the full name first; may be empty.

    Raises:
        CorpusError: no rows, nobody to forget or nobody to retain, or a forget owner without rows.
    """

    name: str
    train: tuple[Example, ...]
    forget_owners: tuple[str, ...]
    phrasings: tuple[Example, ...] = ()
    world: tuple[Example, ...] = ()
    background: tuple[Example, ...] = ()
    holdout: tuple[Example, ...] = ()
    identities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "identities", MappingProxyType(dict(self.identities)))
        owners = self.owners
        if not self.train:
            raise CorpusError(f"Corpus {self.name!r} has no rows: at least two owners with one row each are needed.")
        for name in self.forget_owners:
            if name not in self._rows:
                raise CorpusError(
                    f"Forget owner '{shown(name)}' has no rows in corpus {self.name!r}.{did_you_mean(name, owners)}"
                )
        if not self.forget_owners:
            raise CorpusError(
                f"Corpus {self.name!r} names nobody to forget: give at least one of {', '.join(map(shown, owners[:10]))}."
            )
        if set(self.forget_owners) == set(owners):
            raise CorpusError(
                f"Corpus {self.name!r} would forget all of its {len(owners)} owners: nothing is left to retain or to "
                "compare with."
            )

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def __reduce__(self) -> tuple[type[Corpus], tuple[object, ...]]:
        fields = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return Corpus, tuple({**fields, "identities": dict(self.identities)}.values())  # a view of a mapping is not pickled

    # -- who ---------------------------------------------------------------------------------------------------------
    @cached_property
    def owners(self) -> tuple[str, ...]:
        """All owners of `train`, in order of first appearance."""
        return tuple(self._rows)

    @cached_property
    def retain_owners(self) -> tuple[str, ...]:
        """Everybody who is not to be forgotten, in the order of `owners`."""
        chosen = set(self.forget_owners)
        return tuple(owner for owner in self.owners if owner not in chosen)

    # -- which rows --------------------------------------------------------------------------------------------------
    @cached_property
    def forget(self) -> tuple[Example, ...]:
        """D_F: the trained rows of the forget owners."""
        return self._of(self.train, forget=True)

    @cached_property
    def retain(self) -> tuple[Example, ...]:
        """D_R: the trained rows of everybody else."""
        return self._of(self.train, forget=False)

    @property
    def forget_phrasings(self) -> tuple[Example, ...]:
        """Forget facts in phrasings never trained on."""
        return self._of(self.phrasings, forget=True)

    @property
    def retain_phrasings(self) -> tuple[Example, ...]:
        """Retain facts in phrasings never trained on."""
        return self._of(self.phrasings, forget=False)

    def _of(self, rows: Iterable[Example], *, forget: bool) -> tuple[Example, ...]:
        chosen = set(self.forget_owners)
        return tuple(row for row in rows if (row.owner in chosen) == forget)

    def rows_of(self, owner: str) -> tuple[Example, ...]:
        """The trained rows of one owner. Raises CorpusError on an unknown name."""
        if owner not in self._rows:
            raise CorpusError(f"Corpus {self.name!r} has no owner {owner!r}.{did_you_mean(owner, self.owners)}")
        return self._rows[owner]

    @cached_property
    def _rows(self) -> dict[str, tuple[Example, ...]]:
        found: dict[str, list[Example]] = {}
        for row in self.train:
            found.setdefault(row.owner, []).append(row)
        return {owner: tuple(rows) for owner, rows in found.items()}

    def forgetting(self, owners: Iterable[str]) -> Corpus:
        """The same corpus with other owners to forget."""
        return dataclasses.replace(self, forget_owners=tuple(owners))

    # -- identity ----------------------------------------------------------------------------------------------------
    @property
    def has_identities(self) -> bool:
        """Whether every owner has at least one string that names it."""
        return all(self.identities.get(owner) for owner in self.owners)

    def fingerprint(self) -> str:
        """Hex digest of everything in the corpus: equal exactly when the content is equal."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name == "identities":
                value = sorted((owner, list(names)) for owner, names in value.items())
            elif value and isinstance(value, tuple) and isinstance(value[0], Example):
                value = [dataclasses.astuple(row) for row in value]
            digest.update(json.dumps([item.name, value], ensure_ascii=True, sort_keys=True).encode())
        return digest.hexdigest()
