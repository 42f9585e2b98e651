"""Exact attribution by retraining: what the answer's likelihood loses when the owner was never trained on.

    s(i, y | x) = 1/T * sum_t  mean over seeds of  log pi_N(y_t | x, y_<t) - log pi_{N - i}(y_t | x, y_<t)

pi_N and pi_{N - i} come from the run's own recipe with the same start, seed, order of batches and number of steps: the rows of
owner i keep their place and give no loss. With `value: shapley` the left-out owner is weighed over coalitions of the owners
that are asked about (the others are always trained on): every coalition up to 8 owners, random orders above, with an interval.

Deviation from plain leave-one-out, which drops the rows and thereby draws other batches: here leaving an owner out reshuffles
nothing. Several seeds are averaged, since a single retraining also differs by chance (Søgaard et al. 2021, Revisiting Methods
for Finding Influential Examples).

This is a yardstick, a ceiling and never a contender: it needs the models that unlearning is there to avoid.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from deattrib import LanguageModel, Rows, Scorer, ScorerContext, ScorerError, hookimpl
from deattrib_scorers._shapley import (
    Coalition,
    Game,
    coalitions,
    contributions,
    exact_shapley,
    half_width,
    heads,
    random_orders,
)

MOST_EXACT = 8  # owners: 256 coalitions
MEMORY = 2e9  # bytes of retrained models held, unless told otherwise


class Exact(Scorer):
    """Log-likelihood that an answer loses when the owner is left out of training, measured by retraining."""

    name = "exact"
    fidelity = "exact"

    class Params(Scorer.Params):
        """Settings of `exact`."""

        owners: Literal["forget", "all"] | list[str] = Field("forget", description="Who may be asked about.")
        value: Literal["leave-one-out", "shapley"] = Field("leave-one-out", description="How an owner's share is defined.")
        seeds: int = Field(3, ge=1, description="Retrainings per coalition, averaged; the first has the run's seed.")
        permutations: int = Field(8, ge=2, description="shapley, more than 8 owners: random orders.")
        max_minutes: float = Field(30.0, ge=0, description="Refuse to start where retraining is estimated to take longer.")
        models_held: int | None = Field(
            None, ge=1, description="Retrained models in memory; null: what fits into 2 GB, 2 at least."
        )

    def fit(self, context: ScorerContext) -> None:
        if context.retrainer is None:
            context.retrain()  # says what is missing
        self.context = context
        self.players = self._players(context)
        self.exhaustive = len(self.players) <= MOST_EXACT
        self.orders = random_orders(self.players, self.params.permutations, context.seed)
        self.models: OrderedDict[tuple[Coalition, int], LanguageModel] = OrderedDict()
        self._train()

    def _players(self, context: ScorerContext) -> tuple[str, ...]:
        asked = self.params.owners
        if isinstance(asked, str):
            return context.forget_owners if asked == "forget" else context.owners
        unknown = [owner for owner in asked if owner not in context.owners]
        if unknown or not asked:
            raise ScorerError(f"exact.owners is {asked!r}: expected some of {', '.join(context.owners[:10])}.")
        return tuple(dict.fromkeys(asked))

    # -- retraining ---------------------------------------------------------------------------------------------------
    def _left_out(self) -> list[Coalition]:
        """Every set of owners that some model is trained without."""
        if self.params.value == "leave-one-out":
            return [frozenset(), *(frozenset([owner]) for owner in self.players)]
        everybody = frozenset(self.players)
        wanted = coalitions(self.players) if self.exhaustive else (some for order in self.orders for some in heads(order))
        return list(dict.fromkeys(everybody - some for some in wanted))

    def _seeds(self) -> list[int]:
        assert self.context.retrainer is not None
        return [self.context.retrainer.seed + number for number in range(self.params.seeds)]

    def _train(self) -> None:
        """Make every model that is not there yet, unless that takes longer than allowed."""
        retrainer = self.context.retrainer
        assert retrainer is not None
        jobs = [(some, seed) for some in self._left_out() for seed in self._seeds()]
        missing = [(some, seed) for some, seed in jobs if not retrainer.cached(without=some, seed=seed)]
        if not missing:
            return
        each = retrainer.seconds()
        minutes = len(missing) * each / 60
        if minutes > self.params.max_minutes:
            raise ScorerError(
                f"exact would train {len(missing)} models ({len(jobs) - len(missing)} of {len(jobs)} are there already), about "
                f"{each:.0f} s each: {minutes:.1f} minutes, and max_minutes is {self.params.max_minutes:g}. Ask about fewer "
                f"owners (now {len(self.players)}), use fewer seeds (now {self.params.seeds}), or raise exact.max_minutes."
            )
        for some, seed in missing:
            retrainer.model(without=some, seed=seed)

    def _model(self, without: Coalition, seed: int) -> LanguageModel:
        key = (without, seed)
        if key not in self.models:
            self.models[key] = self.context.retrain(without=without, seed=seed)
            size = sum(value.numel() * value.element_size() for value in self.models[key].model.parameters())
            while len(self.models) > (self.params.models_held or max(int(MEMORY // size), 2)):
                self.models.popitem(last=False)
        self.models.move_to_end(key)
        return self.models[key]

    def _levels(self, rows: Rows, wanted: Mapping[Coalition, Tensor]) -> dict[Coalition, Tensor]:
        """[n, T] on the CPU for each set of left-out owners: log-probabilities of n of the rows, averaged over seeds.

        Every model is used once, those in memory first: where fewer fit than are needed, a fixed order would drop each of them
        just before its turn comes in the next call.
        """
        jobs = sorted(((some, seed) for some in wanted for seed in self._seeds()), key=lambda job: job not in self.models)
        parts = {job: self._model(*job).token_log_probs(rows.batch.rows(wanted[job[0]])).cpu() for job in jobs}
        # In the order of the seeds whatever was in memory: a resumed run sums to the same bits.
        return {some: torch.stack([parts[some, seed] for seed in self._seeds()]).mean(0) for some in wanted}

    # -- scores -------------------------------------------------------------------------------------------------------
    def score(self, rows: Rows) -> Tensor:
        return self.score_prefixes(rows, rows.batch.response_lengths.cpu()[:, None])[:, 0]

    def score_prefixes(self, rows: Rows, ends: Tensor) -> Tensor:
        return _means(self.score_tokens(rows), ends.cpu())

    def score_tokens(self, rows: Rows) -> Tensor:
        """[B, T]: what each token's log-probability loses without the row's owner, in nats."""
        tokens = torch.zeros(rows.batch.response_ids.shape)
        mine = {
            owner: torch.tensor([i for i, name in enumerate(rows.owners) if name == owner])
            for owner in dict.fromkeys(rows.owners)
        }
        for owner, share in self._shares(rows, mine):
            tokens[mine[owner]] = share
        return tokens

    def score_owners(self, rows: Rows, owners: Sequence[str]) -> Tensor:
        everything = torch.arange(len(rows))
        shares = dict(self._shares(rows, dict.fromkeys(owners, everything)))
        ends = rows.batch.response_lengths.cpu()[:, None]
        return torch.cat([_means(shares[owner], ends) for owner in owners], 1)

    def intervals(self, rows: Rows) -> Tensor:
        """[B]: half of the 95 % interval of `score` that the random orders leave; 0 where nothing was sampled."""
        if self.params.value == "leave-one-out" or self.exhaustive:
            return torch.zeros(len(rows))
        self._check(rows.owners)
        ends = rows.batch.response_lengths.cpu()[:, None]
        widths = {
            owner: half_width(torch.stack([_means(part, ends)[:, 0] for part in parts]))
            for owner, parts in contributions(self._game(rows), self.orders).items()
        }
        return torch.stack([widths[owner][row] for row, owner in enumerate(rows.owners)])

    def _shares(self, rows: Rows, about: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """(owner, [n, T]) for each owner and the n rows that it is asked about."""
        self._check(tuple(about))
        if self.params.value == "leave-one-out":
            without = {frozenset([owner]): index for owner, index in about.items()}
            levels = self._levels(rows, {frozenset(): torch.arange(len(rows)), **without})
            full = levels[frozenset()]
            yield from ((owner, full[index] - levels[frozenset([owner])]) for owner, index in about.items())
        elif self.exhaustive:
            values = exact_shapley(self._game(rows), self.players)
            yield from ((owner, values[owner][index]) for owner, index in about.items())
        else:
            samples = contributions(self._game(rows), self.orders)
            yield from ((owner, samples[owner].mean(0)[index]) for owner, index in about.items())

    def _game(self, rows: Rows) -> Game:
        """The game: who of the players is trained on -> [B, T]."""
        everybody, everything = frozenset(self.players), torch.arange(len(rows))
        levels = self._levels(rows, dict.fromkeys(self._left_out(), everything))
        return lambda some: levels[everybody - some]

    def _check(self, owners: Sequence[str]) -> None:
        for owner in owners:
            if owner not in self.players:
                raise ScorerError(
                    f"exact has no model without owner {owner!r}; it was made for {len(self.players)} owners (owners: "
                    f"{self.params.owners!r}). Set exact.owners to 'all' or to a list with that owner."
                )

    def close(self) -> None:
        self.models = OrderedDict()


def _means(tokens: Tensor, ends: Tensor) -> Tensor:
    """Means per token of prefixes: [B, T], ends [B, k] -> [B, k]."""
    running = torch.nn.functional.pad(tokens.cumsum(1), (1, 0))
    return running.gather(1, ends) / ends.clamp(min=1)


@hookimpl
def scorers() -> Sequence[type[Scorer]]:
    return [Exact]
