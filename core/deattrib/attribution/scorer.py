"""What crosses the boundary between the engine and a scorer: rows and the `Scorer` base class (the context: context.py).

A scorer says how much of an owner's data is in a response. Only `score` must be written; overriding one of the
optional methods is how a scorer says that it can do better than the engine's fallback for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

    from deattrib.attribution.context import ScorerContext
    from deattrib.models.batch import TokenBatch
    from deattrib.models.language_model import Codec

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


class Scorer:
    """Base class of all scorers; `score` is the only method that must be written.

    Class attributes:
        name: the word that picks it in a config (`reward: NAME`).
        fidelity: "exact" (retraining), "approximate" (approximates retraining), "proxy" (correlates with retraining), or
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
