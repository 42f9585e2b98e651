"""What crosses the boundary between the engine and a scorer: rows, context, and the `Scorer` base class.

A scorer says how much of an owner's data is in a response. Only `score` must be written; overriding one of the
optional methods is how a scorer says that it can do better than the engine's fallback for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from pydantic import BaseModel, ConfigDict

from deattrib.attribution.draws import other_owners
from deattrib.corpus.types import Example

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from deattrib.attribution.retraining import Retrainer
    from deattrib.models.batch import TokenBatch
    from deattrib.models.identities import SwappedBatch
    from deattrib.models.language_model import Codec, LanguageModel

API_VERSION = 1
OLDEST_API_VERSION = 1  # what was written for an older interface than this is refused
Fidelity = Literal["exact", "approximate", "proxy", "control"]


@dataclass(frozen=True, slots=True)
class Row:
    """One response to be attributed: the `prompt` asked, the `response` given, and the `owner` whose data it is asked about."""

    prompt: str
    response: str
    owner: str


@dataclass(frozen=True, slots=True, eq=False)
class Rows(Sequence[Row]):
    """A batch of rows. Iterating gives `Row`s; the batch as a whole has the token ids for scorers that run a model.

    Attributes:
        prompts, responses, owners: B strings each.
        batch: the same rows as token ids, prompts left padded and responses right padded, with lengths and masks.
    """

    prompts: tuple[str, ...]
    responses: tuple[str, ...]
    owners: tuple[str, ...]
    batch: TokenBatch

    def __len__(self) -> int:
        return len(self.prompts)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Row | Rows:
        if isinstance(index, slice):
            return Rows(self.prompts[index], self.responses[index], self.owners[index], self.batch.rows(index))
        return Row(self.prompts[index], self.responses[index], self.owners[index])

    def __iter__(self) -> Iterator[Row]:
        return (Row(*item) for item in zip(self.prompts, self.responses, self.owners, strict=True))

    def about(self, owners: Sequence[str]) -> Rows:
        """The same rows, asked about other owners."""
        return replace(self, owners=tuple(owners))

    @staticmethod
    def from_texts(codec: Codec, prompts: Sequence[str], responses: Sequence[str], owners: Sequence[str]) -> Rows:
        """Rows from texts; the end-of-sequence token is appended to each response."""
        return Rows(tuple(prompts), tuple(responses), tuple(owners), codec.encode(prompts, responses))

    @staticmethod
    def from_tokens(codec: Codec, prompts: Sequence[str], batch: TokenBatch, owners: Sequence[str]) -> Rows:
        """Rows from sampled ids: the ids stay exactly those that were sampled."""
        texts = tuple(codec.decode(ids) for ids in batch.response_lists())
        return Rows(tuple(prompts), texts, tuple(owners), batch)

    def cut(self, codec: Codec, ends: Tensor) -> Rows:
        """Each response cut after `ends` [B] tokens (at most its own length)."""
        from deattrib.models.batch import TokenBatch

        lengths = ends.to(self.batch.response_lengths).minimum(self.batch.response_lengths)
        width = max(int(lengths.max()), 1)
        batch = TokenBatch(self.batch.prompt_ids, self.batch.prompt_lengths, self.batch.response_ids[:, :width], lengths)
        return Rows.from_tokens(codec, self.prompts, batch, self.owners)


@dataclass(frozen=True, eq=False)
class ScorerContext:
    """What a scorer may know when it is fitted. Everything is read-only.

    Attributes:
        rows_by_owner: owner -> rows that the original model was trained on: all of them, or half for a proxy beside a referee
            that has the other half. All owners, the forgotten ones included.
        forget_owners: who is to be forgotten.
        identities: owner -> strings that name it, the full name first; may be empty.
        background: rows of nobody in `rows_by_owner` (what the base model was made of); may be empty.
        codec: tokenizer and prompt template of the models.
        load_original, load_base, load_policy: lazy models; use the properties.
        device, dtype: where scores are to be computed, and what the original model's weights are in.
        seed: everything random in `fit` must follow from it.
        cache: folder for artefacts, keyed by content by whoever writes there; None: keep nothing.
        rank: of this process; only rank 0 should write.
        retrainer: makes the original model again without some owners; None where the recipe is not known.
    """

    rows_by_owner: Mapping[str, tuple[Example, ...]]
    forget_owners: tuple[str, ...]
    identities: Mapping[str, tuple[str, ...]]
    background: tuple[Example, ...]
    codec: Codec
    load_original: Callable[[], LanguageModel]
    load_base: Callable[[], LanguageModel] | None
    load_policy: Callable[[], Any] | None
    device: torch.device
    dtype: torch.dtype
    seed: int
    cache: Path | None = None
    rank: int = 0
    retrainer: Retrainer | None = None

    @cached_property
    def owners(self) -> tuple[str, ...]:
        """All of them, in the corpus' order."""
        return tuple(self.rows_by_owner)

    @property
    def texts_by_owner(self) -> dict[str, tuple[str, ...]]:
        """Owner -> the answers of its rows."""
        return {owner: tuple(row.response for row in rows) for owner, rows in self.rows_by_owner.items()}

    @property
    def tokenizer(self) -> Any:
        """The codec's."""
        return self.codec.tokenizer

    @property
    def original(self) -> LanguageModel:
        """The frozen original model (π_N)."""
        return self.load_original()

    @property
    def base(self) -> LanguageModel | None:
        """The model before it was trained on the owners, where the run has one."""
        return self.load_base() if self.load_base else None

    @property
    def policy(self) -> Any:
        """The live policy, read-only; None outside a run."""
        return self.load_policy() if self.load_policy else None

    def retrain(self, *, without: Collection[str] = (), seed: int | None = None) -> LanguageModel:
        """The original model made again by the run's own recipe, some owners left out; from the cache where it is there.

        For ground truth only: whatever is optimised must not see a retrained model.

        Raises:
            ScorerError: the run does not know how its original was made.
        """
        if self.retrainer is None:
            from deattrib.errors import ScorerError

            raise ScorerError(
                "There is no retraining here. Either the scorer's fidelity is not 'exact' (what is optimised must not see a "
                "retrained model), or it is not known what the original model was made from: give model.base (the model before "
                "it was trained on the owners) and model.training (the recipe)."
            )
        return self.retrainer.model(without=without, seed=self.retrainer.seed if seed is None else seed)

    @cached_property
    def can_swap(self) -> bool:
        """Whether every owner has a name, so that the counterfactual question can be asked."""
        return all(self.identities.get(owner) for owner in self.owners)

    def counterfactual(self, prompt: str, owner: str, *, draw: int = 0) -> tuple[str, str]:
        """The same question about a retain owner: (prompt, that owner). `draw` picks another one each time.

        Raises ScorerError without names for all owners (`can_swap`), or without another retain owner.
        """
        from deattrib.models.identities import swap_names

        other = self.other_owner(owner, prompt, draw=draw)
        return swap_names(prompt, self.identities[owner], self.identities[other]), other

    def counterfactual_rows(self, rows: Rows, *, draw: int = 0) -> SwappedBatch:
        """B rows about a retain owner instead, names swapped in prompts and responses, with [B, T] maps to the new tokens.

        `draw` and errors as for `counterfactual`.
        """
        from deattrib.models.identities import swap_batch

        others = [self.other_owner(row.owner, row.prompt, draw=draw) for row in rows]
        names = [[self.identities[owner] for owner in owners] for owners in (rows.owners, others)]
        return swap_batch(self.codec, rows.prompts, rows.batch.to("cpu"), *names)

    def name_mask(self, rows: Rows) -> Tensor:
        """[B, T] bool on the CPU: response tokens that are part of any owner's name."""
        from deattrib.models.identities import all_names, name_token_mask

        return name_token_mask(self.codec, rows.batch.to("cpu"), all_names(self.identities.values()))

    def other_owner(self, owner: str, prompt: str, *, draw: int = 0) -> str:
        """A retain owner that is not `owner`, fixed by (seed, owner, prompt, draw); different draws, different owners.

        As far as there are owners: draws count through one shuffled list and begin again at its end, negative ones from
        its end. Raises ScorerError without names for all, or without another retain owner.
        """
        from deattrib.errors import ScorerError

        if not self.can_swap:
            missing = [name for name in self.owners if not self.identities.get(name)]
            raise ScorerError(
                f"The counterfactual question needs a name for every owner; {len(missing)} have none (first: {missing[0]!r}). "
                "Give `identity` per row or an identities file."
            )
        if options := self._others(owner, prompt):
            return options[draw % len(options)]
        raise ScorerError(f"The counterfactual question about {owner!r} needs another retain owner; there is none.")

    @cached_property
    def _others(self) -> Callable[[str, str], list[str]]:
        return other_owners(self.owners, self.forget_owners, seed=self.seed)


class Scorer:
    """Base class of all scorers; `score` is the only method that must be written.

    Class attributes:
        name: the word that picks it in a config (`reward: NAME`).
        fidelity: "exact" (retraining), "approximate" (approximates retraining), "proxy" (correlates with it), or
            "control" (means nothing on purpose, and is therefore not calibrated).
        api_version: the version of this interface the scorer was written for.
        needs: what it needs beyond a corpus and a model, for the listing; an entry "distribution[extra]" is checked, and
            asking for the scorer without that extra gives the pip command.
        owner_free: the score follows from the text alone, whoever is asked about (a plain likelihood); such a scorer cannot
            rank owners, and is not asked to. May be set on the instance by `fit`, where it depends on the settings.
        params: an instance's settings, what it is made with; None: `Params()`.
    """

    name: ClassVar[str]
    api_version: ClassVar[int] = API_VERSION
    fidelity: ClassVar[Fidelity] = "proxy"
    needs: ClassVar[tuple[str, ...]] = ()
    owner_free: bool = False

    class Params(BaseModel):
        """Settings of this scorer; subclass it to add some."""

        # Not as class keywords: type checkers would then want them again on every subclass.
        model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __init__(self, params: BaseModel | None = None) -> None:
        self.params: Any = params if params is not None else self.Params()

    def fit(self, context: ScorerContext) -> None:
        """Get ready, once, on the frozen original model. Optional."""

    def score(self, rows: Rows) -> Any:
        """One number per row, higher = more of `row.owner`'s data in it. Any scale.

        Returns:
            B numbers: a list, a numpy array or a tensor.
        """
        raise NotImplementedError(f"{type(self).__name__} must define score(rows).")

    def score_prefixes(self, rows: Rows, ends: Tensor) -> Any:
        """Scores of response prefixes in one pass: ends [B, k] token counts -> [B, k]. Optional."""
        raise NotImplementedError

    def score_tokens(self, rows: Rows) -> Any:
        """Each response token's share of the score: [B, T]. Optional; drives shading and the anchored term."""
        raise NotImplementedError

    def score_owners(self, rows: Rows, owners: Sequence[str]) -> Any:
        """Scores against several owners at once: [B, len(owners)]. Optional."""
        raise NotImplementedError

    def calibrate_as(self) -> Scorer:
        """The scorer whose scores set the scale; a control that wraps another scorer returns the wrapped one."""
        return self

    def close(self) -> None:
        """Free what was taken. May be called twice."""

    @classmethod
    def overrides(cls, method: str) -> bool:
        """Whether this class brings its own version of an optional method."""
        return getattr(cls, method) is not getattr(Scorer, method)
