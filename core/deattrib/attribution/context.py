"""What a scorer may know when it is fitted, and making it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deattrib.attribution.draws import other_owners
from deattrib.attribution.keeping import kept
from deattrib.corpus.types import Corpus, Example

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from deattrib.attribution.retraining import Retrainer
    from deattrib.attribution.scorer import Rows
    from deattrib.models.identities import SwappedBatch
    from deattrib.models.language_model import Codec, LanguageModel


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

    def keep(self, kind: str, content: Any, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors that take long to make, from `cache` where they were made before: by another process, or another run.

        Made they are without a cache, too, and where they are large and soon made (above 16 MB, and 10 MB a second) or larger
        than 4 GB: those are not kept. What comes from the cache is equal to the bit; all are on the CPU. Every process may
        write, and `make` must not talk to others.

        Args:
            kind: beginning of the file's name, such as the scorer's.
            content: all that `make` depends on, as JSON takes it: settings, rows, `fingerprint(model)`, the version of your
                code. The seed, the codec, device and dtype, and the versions of deattrib and its libraries are added.
            make: tensors of any shape, by name.

        Returns:
            these tensors.

        Raises:
            ScorerError: `content` is nothing that JSON takes.
        """
        return kept(self, kind, content, make)


def make_context(
    corpus: Corpus,
    original: LanguageModel,
    *,
    base: LanguageModel | None = None,
    policy: Callable[[], Any] | None = None,
    seed: int = 0,
    cache: Path | None = None,
    half: int | None = None,
    retrainer: Retrainer | None = None,
    rank: int = 0,
) -> ScorerContext:
    """What a scorer may know.

    Args:
        half: 0 or 1 gives every other row of each owner only, facts with several phrasings being split within the
            fact: two scorers fitted on different halves share no row.
        retrainer: for scorers that retrain; always on all rows.
    """

    def rows_of(owner: str) -> tuple[Example, ...]:
        rows = sorted(corpus.rows_of(owner), key=lambda row: row.fact_id) if half is not None else corpus.rows_of(owner)
        return tuple(rows) if half is None else tuple(rows[half::2]) or tuple(rows)

    return ScorerContext(
        rows_by_owner={owner: rows_of(owner) for owner in corpus.owners},
        forget_owners=corpus.forget_owners,
        identities=corpus.identities,
        background=corpus.background,
        codec=original.codec,
        load_original=lambda: original,
        load_base=(lambda: base) if base is not None else None,
        load_policy=policy,
        device=original.device,
        dtype=next(original.model.parameters()).dtype,
        seed=seed,
        cache=cache,
        rank=rank,
        retrainer=retrainer,
    )
