"""What the gradient-linear scorers share: rows in, derivatives along the owners' directions out.

A response's score is the mean over its tokens of w_t <grad log p(y_t | q, y_<t), v_owner>, so that every token has a
share and every prefix is a running sum. What differs is how the directions are made (`fit`) and how a token is weighted
(`weigh`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from deattrib import LanguageModel, Rows, Scorer, ScorerContext, ScorerError, TokenBatch, fingerprint, load_language_model
from deattrib_scorers._code import code_digest, settings_of
from deattrib_scorers._directions import Directions, from_tensors
from deattrib_scorers._factors import gradient_factors
from deattrib_scorers._sites import Site, find_sites
from deattrib_scorers._tangents import Derivative, token_derivatives

FORGET_SET = "the forget set"


class DirectionParams(Scorer.Params):
    """Settings of every gradient-linear scorer."""

    layers: tuple[str, ...] = Field(
        ("*",), description="Parameters to differentiate by name pattern; all of them, head included."
    )
    checkpoints: tuple[str, ...] = Field(
        ("auto",),
        min_length=1,
        description="Where gradients are taken: 'original', 'base', 'auto' (base where there is one), model folders "
        "(TracIn), or 'policy': the owners' at the original model, the responses' at the live policy.",
    )
    checkpoint_weights: tuple[float, ...] | None = Field(
        None, description="One per checkpoint, such as its learning rate; all 1 if not given."
    )
    derivative: Derivative = Field("forward", description="'forward' mode, or central 'differences' for kernels without it.")
    direction: Literal["own", "forget-set"] = Field(
        "own", description="Rows of forgotten owners move along their own owner's direction, or along the whole forget set's."
    )
    batch_size: int = Field(32, ge=1, description="Rows per forward pass.")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """One model and the owners' directions at its weights."""

    name: str
    directions: Directions


class DirectionScorer(Scorer):
    """Base of the scorers whose score of a response is a directional derivative of its log-probability."""

    fidelity = "approximate"
    Params = DirectionParams
    context: ScorerContext | None = None
    checkpoints: Sequence[Checkpoint] = ()
    # Where a setting rules out one direction per owner: whole responses against all owners, rows -> [B, owners].
    table: Callable[[Rows], Tensor] | None = None

    def weigh(self, log_probs: Tensor) -> Tensor:
        """Weights of the response's tokens from their log-probabilities: [B, T] -> [B, T]."""
        return torch.ones_like(log_probs)

    # -- fitting ------------------------------------------------------------------------------------------------------
    def fit(self, context: ScorerContext) -> None:
        self.context = context
        self.loaded: dict[str, LanguageModel] = {}
        made = []
        for name, weight in zip(self.params.checkpoints, self.checkpoint_weights(), strict=True):
            with torch.no_grad(), self.model(name, fitting=True) as module:
                directions = self._kept_directions(context, module)
            made.append(Checkpoint(name, self._finished(directions, weight, context)))
        self.checkpoints = made

    def checkpoint_weights(self) -> tuple[float, ...]:
        """One number per checkpoint.

        Raises:
            ScorerError: not as many are given as there are checkpoints.
        """
        count = len(self.params.checkpoints)
        weights = self.params.checkpoint_weights or (1.0,) * count
        if len(weights) != count:
            raise ScorerError(f"{self.name}.checkpoint_weights has {len(weights)} numbers for {count} checkpoints.")
        return weights

    def refuse_policy(self, backend: str) -> None:
        """For backends that copy every checkpoint when they are fitted."""
        if "policy" in self.params.checkpoints:
            raise ScorerError(
                f"{self.name}: backend {backend} cannot follow the live policy; leave 'policy' out of checkpoints."
            )

    def make_directions(self, context: ScorerContext, module: nn.Module, sites: tuple[Site, ...]) -> Directions:
        """One direction per owner, in the order of `context.owners`."""
        raise NotImplementedError

    @property
    def keeps_directions(self) -> bool:
        """Whether `make_directions` leaves nothing behind but what it returns, so that another process can do without it.

        Only of this package's own scorers: what else another one reads is not in the key.
        """
        return type(self).__module__.partition(".")[0] == __package__

    def _kept_directions(self, context: ScorerContext, module: nn.Module) -> Directions:
        """Made once, by whichever process or run is first to use this scorer at this model with these rows."""
        if not self.keeps_directions or context.cache is None:
            return self.make_directions(context, module, self.sites(module))
        content = {
            "rows": [[owner, [[row.prompt, row.response] for row in rows]] for owner, rows in context.rows_by_owner.items()],
            "params": self.params.model_dump(mode="json"),
            "model": [fingerprint(module), settings_of(module)],
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "code": code_digest(),
        }
        made = context.keep(self.name, content, lambda: self.make_directions(context, module, self.sites(module)).tensors())
        return from_tensors(context.owners, made, context.device)

    def _finished(self, directions: Directions, weight: float, context: ScorerContext) -> Directions:
        directions = directions.scaled(weight)
        if self.params.direction != "forget-set":
            return directions
        forgotten = set(context.forget_owners)
        return directions.with_sum(FORGET_SET, torch.tensor([owner in forgotten for owner in directions.owners]))

    @contextlib.contextmanager
    def model(self, name: str, *, fitting: bool = False) -> Iterator[nn.Module]:
        """The module of a checkpoint, to be called now and not kept: in a run the original lives inside the policy."""
        context = self._fitted() if not fitting else self.context
        assert context is not None
        if name == "auto":
            name = "original" if context.base is None else "base"
        if name == "policy" and context.policy is not None and not fitting:
            with torch.no_grad():
                yield context.policy.backbone
            return
        if name in ("original", "policy"):
            language_model: LanguageModel | None = context.original
        elif name == "base":
            language_model = context.base
            if language_model is None:
                raise ScorerError(f"{self.name}.checkpoints names 'base', and there is no base model: give model.base.")
        else:
            if name not in self.loaded:
                self.loaded[name] = load_language_model(name, codec=context.codec, device=context.device, dtype=context.dtype)
            language_model = self.loaded[name]
        assert language_model is not None
        with language_model.active() as module:
            yield module

    def _fitted(self) -> ScorerContext:
        if self.context is None or not (self.checkpoints or self.table):
            raise ScorerError(f"{self.name} has no directions yet: call fit() first; close() ends its use.")
        return self.context

    # -- scores -------------------------------------------------------------------------------------------------------
    def score_tokens(self, rows: Rows) -> Tensor:
        """[B, T]: weighted derivative of each token's log-probability along the owner's direction; 0 at padding."""
        self._fitted()
        if self.table is not None:  # no shares there: every token gets the response's score, so that their mean is right
            return self.score(rows)[:, None] * rows.batch.response_mask.cpu()
        total = torch.zeros(rows.batch.response_ids.shape)
        for checkpoint in self.checkpoints:
            index = self._index(rows, checkpoint.directions)
            with self.model(checkpoint.name) as module:
                sites = self.sites(module)
                for part, batch in self._parts(rows.batch, module):
                    shares = self.shares(module, sites, batch, checkpoint.directions, index[part])
                    total[part] += shares.cpu().float()
        return total

    def sites(self, module: nn.Module) -> tuple[Site, ...]:
        """Where the chosen parameters are used in a model."""
        return find_sites(module, self.params.layers)

    def shares(
        self, module: nn.Module, sites: Sequence[Site], batch: TokenBatch, directions: Directions, index: Tensor
    ) -> Tensor:
        """[B, T]: each token's share at one checkpoint."""
        values, log_probs = token_derivatives(module, sites, batch, directions, index, self.params.derivative)
        return values * self.weigh(log_probs)

    def score_prefixes(self, rows: Rows, ends: Tensor) -> Tensor:
        if self.table is not None:
            return prefix_by_prefix(self.score, rows, ends)
        running = torch.nn.functional.pad(self.score_tokens(rows).cumsum(1), (1, 0))
        ends = torch.minimum(ends.cpu(), rows.batch.response_lengths.cpu()[:, None])
        return running.gather(1, ends) / ends.clamp(min=1)

    def score(self, rows: Rows) -> Tensor:
        if self.table is not None:
            owners = self._fitted().owners
            index = torch.tensor([position_of(owner, owners, self.name) for owner in rows.owners])
            return self._tabled(rows).gather(1, index[:, None]).squeeze(1)
        return self.score_tokens(rows).sum(1) / rows.batch.response_lengths.cpu().clamp(min=1)

    def score_owners(self, rows: Rows, owners: Sequence[str]) -> Tensor:
        """[B, len(owners)] by one forward and one backward pass, however many owners."""
        known = self._fitted().owners
        if self.table is not None:
            return self._tabled(rows)[:, [position_of(owner, known, self.name) for owner in owners]]
        total = torch.zeros(len(rows), len(owners))
        for checkpoint in self.checkpoints:
            columns = [self._direction_of(owner, checkpoint.directions) for owner in owners]
            with self.model(checkpoint.name) as module:
                sites = self.sites(module)
                for part, batch in self._parts(rows.batch, module):
                    values = self.whole(module, sites, batch, checkpoint.directions)
                    total[part] += values[:, columns].cpu().float()
        return total

    def _tabled(self, rows: Rows) -> Tensor:
        """The table, forgotten owners with the sum of all of theirs where `direction` asks for it: [B, owners]."""
        assert self.table is not None
        values, context = self.table(rows), self._fitted()
        if self.params.direction == "forget-set":
            forgotten = torch.tensor([owner in context.forget_owners for owner in context.owners])
            values = torch.where(forgotten, values[:, forgotten].sum(1, keepdim=True), values)
        return values

    def whole(self, module: nn.Module, sites: Sequence[Site], batch: TokenBatch, directions: Directions) -> Tensor:
        """[B, D]: whole responses against all directions at one checkpoint."""
        factors, _ = gradient_factors(module, sites, batch, self.weigh)
        return directions.contract(factors) / batch.response_lengths.clamp(min=1)[:, None]

    def _parts(self, batch: TokenBatch, module: nn.Module) -> Iterator[tuple[slice, TokenBatch]]:
        device = next(module.parameters()).device
        for start in range(0, len(batch), self.params.batch_size):
            part = slice(start, start + self.params.batch_size)
            yield part, batch.rows(part).to(device)

    def _index(self, rows: Rows, directions: Directions) -> Tensor:
        return torch.tensor([self._direction_of(owner, directions) for owner in rows.owners], dtype=torch.int64)

    def _direction_of(self, owner: str, directions: Directions) -> int:
        context = self._fitted()
        position = position_of(owner, directions.owners, self.name)
        shared = self.params.direction == "forget-set" and owner in context.forget_owners
        return directions.owners.index(FORGET_SET) if shared else position

    def close(self) -> None:
        self.checkpoints = ()
        self.loaded = {}
        self.table = None


def position_of(owner: str, owners: Sequence[str], scorer: str) -> int:
    """Where an owner stands; raises ScorerError for one that was not there at fit."""
    if owner not in owners:
        raise ScorerError(f"{scorer} was not fitted on owner {owner!r}; it knows {len(owners)} owners.")
    return owners.index(owner)


def prefix_by_prefix(score: Callable[[Rows], Tensor], rows: Rows, ends: Tensor) -> Tensor:
    """Scores of prefixes, ends [B, k] -> [B, k], where no running sum gives them: one call per column."""
    batch, columns = rows.batch, []
    for cut in torch.minimum(ends.cpu(), batch.response_lengths.cpu()[:, None]).unbind(1):
        width = max(int(cut.max()), 1)
        lengths = cut.to(batch.response_lengths)
        some = TokenBatch(batch.prompt_ids, batch.prompt_lengths, batch.response_ids[:, :width], lengths)
        columns.append(score(Rows(rows.prompts, rows.responses, rows.owners, some)))
    return torch.stack(columns, 1)
