"""What the policy is compared with: the old policy, the original model, the base model, or a counterfactual one.

The original model holds what is to be forgotten, so a KL penalty towards it keeps the facts. The *counterfactual*
reference is the same frozen model asked the same question about a retain owner, with the name swapped in the prompt
and in what the response has said so far: fluent, on topic, and without the owner. It needs a name for every owner.
The base model (before it was trained on the owners) needs none.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deattrib.errors import ConfigError
from deattrib.models.batch import TokenBatch
from deattrib.models.identities import first_tokens, rename, spell, swap_batch
from deattrib.models.language_model import LanguageModel
from deattrib.models.policy import Policy
from deattrib.ppo.settings import ReferenceName


class Reference:
    """Distributions of a reference at the response positions of a batch.

    Args:
        name: which one.
        policy: holds the original model and, for `old`, the remembered policy.
        base: the model before it was trained on the owners; needed for `base`, same tokenizer.
        identities: owner -> names; needed for `counterfactual`.
        retain_owners: whom a question may be asked about instead.
        original: asked instead of the policy's own view of the original model: the same one set apart for a thread.
    """

    def __init__(
        self,
        name: ReferenceName,
        *,
        policy: Policy,
        base: LanguageModel | None,
        identities: Mapping[str, tuple[str, ...]],
        retain_owners: Sequence[str],
        original: LanguageModel | None = None,
    ) -> None:
        self.name = name
        self.policy = policy
        self.model = original or policy.original()
        self.base = base
        self.identities = identities
        self._maps: dict[tuple[str, str], dict[int, int]] = {}
        self.retain_owners = tuple(owner for owner in retain_owners if identities.get(owner))
        if name == "base" and base is None:
            raise ConfigError("reference 'base' needs the model before it was trained on the owners: set model.base.")
        if name == "counterfactual" and not self.retain_owners:
            raise ConfigError(
                "reference 'counterfactual' asks the same question about another owner, and no retain owner has a name: "
                "give `identity` in the corpus rows or corpus.identities_path, or take reference 'base' (with model.base) "
                "or 'none'."
            )

    def draw(self, owners: Sequence[str], rng: random.Random) -> list[str]:
        """A retain owner per row, whom a counterfactual reference is asked about; no other reference draws any."""
        if self.name != "counterfactual":
            return []
        unnamed = sorted({owner for owner in owners if not self.identities.get(owner)})
        if unnamed:
            raise ConfigError(f"reference 'counterfactual': owner {unnamed[0]!r} has no name to replace; give it an identity.")
        return [rng.choice([name for name in self.retain_owners if name != owner]) for owner in owners]

    @torch.no_grad()
    def logits(self, prompts: Sequence[str], owners: Sequence[str], batch: TokenBatch, others: Sequence[str]) -> Tensor:
        """The reference's distribution for each response token.

        Args:
            prompts, owners: B texts and names.
            batch: their token ids, on the policy's device.
            others: what `draw` gave for these owners.

        Returns:
            logits [B, T, V] float32. A counterfactual reference begins the row's own name where it would begin the other's,
            and once begun spells it out.
        """
        if self.name == "original":
            return self.model.logits(batch)
        if self.name == "old":
            return self.policy.old_logits(batch)
        if self.name == "base":
            assert self.base is not None
            return self.base.logits(batch)
        if self.name == "counterfactual":
            return self._counterfactual(prompts, owners, batch, others)
        raise ValueError("Reference 'none' has no distribution.")

    def _counterfactual(
        self, prompts: Sequence[str], owners: Sequence[str], batch: TokenBatch, others: Sequence[str]
    ) -> Tensor:
        mine, theirs = [self.identities[owner] for owner in owners], [self.identities[other] for other in others]
        swapped = swap_batch(self.model.codec, prompts, batch.to("cpu"), mine, theirs)
        logits = self.model.logits(swapped.batch.to(batch.response_ids.device))
        # Without this the model would be taught to answer about its owner under somebody else's name.
        maps = [self._first_tokens(owner, other) for owner, other in zip(owners, others, strict=True)]
        target = rename(torch.log_softmax(swapped.align(logits, begins=True), -1), maps)
        inside = batch.response_mask & ~(swapped.kept | swapped.begins).to(logits.device)
        return spell(target, batch.response_ids, inside)

    def _first_tokens(self, owner: str, other: str) -> dict[int, int]:
        if (owner, other) not in self._maps:
            self._maps[owner, other] = first_tokens(self.model.codec, self.identities[owner], self.identities[other])
        return self._maps[owner, other]
