"""The `corpus` part of a config file, and the one function that turns it into a Corpus."""

from __future__ import annotations

import dataclasses
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deattrib.corpus.fictitious import fictitious_corpus
from deattrib.corpus.hub import read_hub, read_two_groups
from deattrib.corpus.identities import derive_identities, override
from deattrib.corpus.jsonl import read_jsonl
from deattrib.corpus.overlap import with_overlap
from deattrib.corpus.passages import read_texts
from deattrib.corpus.tofu import read_tofu
from deattrib.corpus.types import Corpus
from deattrib.errors import CorpusError

CorpusKind = Literal["fictitious", "jsonl", "texts", "tofu", "hub", "two-groups"]
Numbers = int | str | tuple[int | str, ...]

# Which kinds a setting is for; those not listed are for all of them.
APPLIES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "owners": ("fictitious", "tofu"),
        "forget": ("fictitious", "jsonl", "texts", "tofu", "hub"),
        "facts": ("fictitious",),
        "shadow_owners": ("fictitious",),
        "holdout_owners": ("fictitious",),
        "world_repeats": ("fictitious", "tofu"),
        "seed": ("fictitious",),
        "path": ("jsonl", "texts", "tofu"),
        "prompt_words": ("texts",),
        "response_words": ("texts",),
        "background_owners": ("tofu",),
        "holdout_file": ("tofu",),
        "identities_path": ("jsonl", "texts", "tofu", "hub", "two-groups"),
        "derive_identities": ("jsonl", "texts", "hub"),
        "dataset": ("hub",),
        "dataset_config": ("hub",),
        "split": ("hub",),
        "owner_column": ("hub",),
        "prompt_column": ("hub",),
        "response_column": ("hub",),
        "forget_path": ("two-groups",),
        "retain_path": ("two-groups",),
    }
)


class CorpusSettings(BaseModel):
    """Where the rows come from and who is to be forgotten. Settings of another kind are refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: CorpusKind = Field(
        default="fictitious",
        description="fictitious: made-up authors; jsonl: a file of owner, prompt, response; texts: a file of owner, text,"
        " whose first words are the prompt; tofu: a TOFU folder;"
        " hub: a data set id; two-groups: a file to forget and a file to retain, without owners.",
    )
    name: str | None = Field(default=None, description="Name of the corpus in titles; by default that of its kind or file.")
    forget: Numbers = Field(
        default=2,
        description="Whom to forget: how many owners (the last ones), or their ids; for tofu also numbers such as '196-199'.",
    )
    owners: Numbers | None = Field(
        default=None,
        description="fictitious: how many authors (20 if not given). tofu: author numbers to train on, such as '0-19,180-199'"
        " (all but background_owners if not given).",
    )
    facts: int = Field(default=20, ge=1, le=20, description="fictitious: facts per author.")
    shadow_owners: int = Field(
        default=300, ge=0, le=1_000_000, description="fictitious: other authors that the base model is made of."
    )
    holdout_owners: int = Field(default=4, ge=0, le=1_000_000, description="fictitious: authors that no model is trained on.")
    world_repeats: int = Field(
        default=8, ge=0, le=10_000, description="fictitious, tofu: how often the base model's rows hold each world question."
    )
    seed: int | None = Field(default=None, description="fictitious: seed of the corpus; the seed of the run if not given.")
    path: str | None = Field(default=None, description="jsonl, texts: the file. tofu: the folder with full.json.")
    prompt_words: int = Field(default=24, ge=1, description="texts: how many words of a passage are the prompt.")
    response_words: int | None = Field(
        default=48,
        ge=1,
        description="texts: most words of an answer; longer texts are cut into passages. null: the whole rest of the text.",
    )
    background_owners: Numbers | None = Field(
        default=None, description="tofu: author numbers that the base model is made of, such as '20-179'; none if not given."
    )
    holdout_file: str | None = Field(
        default="holdout10", description="tofu: file (without .json) of authors that no model is trained on; null for none."
    )
    identities_path: str | None = Field(
        default=None,
        description="jsonl, texts, tofu, hub, two-groups: JSON file {owner: [full name, last name, ...]} with names of owners.",
    )
    derive_identities: bool = Field(
        default=False,
        description="jsonl, texts, hub: find the names of owners in their rows (tofu always does) where the rows give none.",
    )
    dataset: str | None = Field(default=None, description="hub: what datasets.load_dataset takes, such as 'user/data'.")
    dataset_config: str | None = Field(default=None, description="hub: configuration of the data set, if it has several.")
    split: str = Field(default="train", description="hub: split of the data set.")
    owner_column: str = Field(default="owner", description="hub: column with the owner.")
    prompt_column: str = Field(default="prompt", description="hub: column with the prompt.")
    response_column: str = Field(default="response", description="hub: column with the response.")
    forget_path: str | None = Field(
        default=None, description="two-groups: rows to forget (prompt/response or question/answer)."
    )
    retain_path: str | None = Field(default=None, description="two-groups: rows to retain.")
    overlap: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the forget facts of which a phrasing kept from training is put among the rows of retain owners.",
    )

    @model_validator(mode="after")
    def _only_what_applies(self) -> CorpusSettings:
        # Compared with the default, not with what was given: a resolved config lists every setting and must load again.
        fields = type(self).model_fields
        wrong = [
            f"{setting} does not apply to corpus kind {self.kind!r}, it is for {' and '.join(kinds)}: remove it or change kind"
            for setting, kinds in APPLIES.items()
            if self.kind not in kinds and getattr(self, setting) != fields[setting].default
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def load_corpus(settings: CorpusSettings, seed: int) -> Corpus:
    """Read or make the corpus that `settings` describe; `seed` matters for the fictitious one and for overlap only.

    Raises:
        CorpusError: a setting that this kind needs is missing, or the data cannot be used.
    """
    return with_overlap(_load(settings, seed), settings.overlap, seed=seed if settings.seed is None else settings.seed)


def _load(settings: CorpusSettings, seed: int) -> Corpus:
    match settings.kind:
        case "fictitious":
            return _fictitious(settings, seed if settings.seed is None else settings.seed)
        case "tofu":
            return _tofu(settings)
        case "jsonl":
            corpus = read_jsonl(_path(settings, "path"), forget=_owners_to_forget(settings), name=settings.name)
        case "texts":
            corpus = read_texts(
                _path(settings, "path"),
                prompt_words=settings.prompt_words,
                response_words=settings.response_words,
                forget=_owners_to_forget(settings),
                name=settings.name,
            )
        case "hub":
            corpus = read_hub(
                _given(settings, "dataset"),
                owner_column=settings.owner_column,
                prompt_column=settings.prompt_column,
                response_column=settings.response_column,
                split=settings.split,
                config=settings.dataset_config,
                forget=_owners_to_forget(settings),
                name=settings.name,
            )
        case "two-groups":
            corpus = read_two_groups(_path(settings, "forget_path"), _path(settings, "retain_path"), name=settings.name)
    return _with_identities(corpus, settings)


def author_numbers(value: Numbers, *, setting: str) -> tuple[int, ...]:
    """Author numbers from "0-19,180-199", "tofu_196", 7, or a list of such. Raises CorpusError on anything else."""
    if isinstance(value, int):
        return (value,)
    if not isinstance(value, str):
        return tuple(number for item in value for number in author_numbers(item, setting=setting))
    numbers: list[int] = []
    for part in value.split(","):
        # At most six digits: what is written out below has an end.
        found = re.fullmatch(r"\s*(?:tofu_)?(\d{1,6})\s*(?:-\s*(?:tofu_)?(\d{1,6})\s*)?", part)
        if found is None or int(found[2] or found[1]) < int(found[1]):
            shown = reprlib.repr(part.strip())
            raise CorpusError(f"corpus.{setting}: {shown}, expected numbers of at most six digits such as '0-19,180-199'.")
        numbers.extend(range(int(found[1]), int(found[2] or found[1]) + 1))
    return tuple(numbers)


def _fictitious(settings: CorpusSettings, seed: int) -> Corpus:
    owners = 20 if settings.owners is None else settings.owners
    if not isinstance(owners, int):
        raise CorpusError(f"corpus.owners: {owners!r}, expected how many fictitious authors to make, such as 20.")
    return fictitious_corpus(
        seed=seed,
        owners=owners,
        facts=settings.facts,
        forget=_owners_to_forget(settings),
        shadow_owners=settings.shadow_owners,
        holdout_owners=settings.holdout_owners,
        world_repeats=settings.world_repeats,
        name=settings.name or "fictitious",
    )


def _tofu(settings: CorpusSettings) -> Corpus:
    owners = None if settings.owners is None else author_numbers(settings.owners, setting="owners")
    background = settings.background_owners
    forget = settings.forget
    if isinstance(forget, int):
        if owners is None or not 1 <= forget < len(owners):
            raise CorpusError(
                f"corpus.forget: {forget}, expected author numbers such as '196-199', or how many, with owners given."
            )
        forget = owners[len(owners) - forget :]
    return read_tofu(
        _path(settings, "path"),
        owners=owners,
        forget=author_numbers(forget, setting="forget"),
        background_owners=None if background is None else author_numbers(background, setting="background_owners"),
        holdout=settings.holdout_file,
        identities_path=settings.identities_path,
        world_repeats=settings.world_repeats,
        name=settings.name or "tofu",
    )


def _with_identities(corpus: Corpus, settings: CorpusSettings) -> Corpus:
    """Names from the override file before those of the rows before derived ones."""
    if not settings.derive_identities and settings.identities_path is None:
        return corpus
    holdout = dict.fromkeys(row.owner for row in corpus.holdout)
    rows = {owner: corpus.rows_of(owner) for owner in corpus.owners}
    rows |= {owner: tuple(row for row in corpus.holdout if row.owner == owner) for owner in holdout}
    names = derive_identities(rows) if settings.derive_identities else dict.fromkeys(rows, ())
    names = override({**names, **corpus.identities}, settings.identities_path)
    return dataclasses.replace(corpus, identities={owner: given for owner, given in names.items() if given})


def _owners_to_forget(settings: CorpusSettings) -> int | Sequence[str]:
    forget = settings.forget
    if isinstance(forget, int):
        return forget
    if isinstance(forget, str):
        return (forget,)
    return tuple(str(owner) for owner in forget)


def _given(settings: CorpusSettings, setting: str) -> str:
    value = getattr(settings, setting)
    if value is None:
        raise CorpusError(f"corpus.{setting} is missing, kind {settings.kind!r} needs it. Give --set corpus.{setting}=...")
    return str(value)


def _path(settings: CorpusSettings, setting: str) -> Path:
    given = _given(settings, setting)
    try:
        return Path(given).expanduser()
    except RuntimeError as error:  # ~somebody whom this machine does not know
        raise CorpusError(f"corpus.{setting}: {given!r}, {error} Give the path in full.") from error
