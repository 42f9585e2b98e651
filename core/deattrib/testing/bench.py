"""The bench a scorer is put on: it is made, fitted and asked as in a run, as often as the checks need it.

In a run the original model stands alone while scorers are fitted, and afterwards lives inside the policy. So it does
here: what a scorer kept from `fit` must still be right once there is a policy, and once the policy has moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from deattrib.attribution.attributor import ScorerSpec
from deattrib.attribution.context import ScorerContext, make_context
from deattrib.attribution.guard import GuardedScorer
from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.scorer import Rows, Scorer
from deattrib.errors import ConfigError
from deattrib.models.language_model import LanguageModel
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib.testing.world import World

ROUNDING = 1e-6  # of the largest score: what float32 may lose whatever the spread
SLICES = 15  # prefixes per response, as the paper's reward asks for


class ContractFailure(AssertionError):
    """A scorer breaks the contract; the message says how."""


class ContractSkip(Exception):
    """A check does not apply to a scorer; the message says why."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Measured on the bench's small model: seconds of one fit, per row of `score`, and per row of 15 prefixes."""

    fit: float
    score: float
    prefixes: float

    def __str__(self) -> str:
        score, prefixes = 1000 * self.score, 1000 * self.prefixes
        return f"fit {self.fit:.3g} s, score {score:.3g} ms a row, {SLICES} prefixes {prefixes:.3g} ms a row"


class Stage:
    """One fitted scorer with the policy it may not touch.

    Attributes:
        guard: the scorer behind the engine's own wall, which watches the policy.
        policy: made after `fit` from the original model, then nudged off it as learning would.
        asked_for_policy: whether the scorer ever read `context.policy`.
    """

    def __init__(self, scorer: Scorer, world: World, change: Callable[[ScorerContext], ScorerContext], seed: int) -> None:
        self.original = LanguageModel(world.original.clone(), world.codec, name="original")
        self.base = LanguageModel(world.base.clone(), world.codec, name="base")
        self.policy: Policy | None = None
        self.asked_for_policy = False
        context = make_context(
            world.corpus, self.original, base=self.base, policy=self._read_policy, seed=seed, retrainer=world.retrainer
        )
        self.context = change(replace(context, load_original=lambda: self.original))
        self.guard = GuardedScorer(scorer, codec=world.codec, name=scorer.name, watch=self.original.model)
        self.guard.fit(self.context)
        self.fit_seconds = self.guard.seconds
        self.policy = Policy(self.original.clone(), world.codec, PolicySettings(rank=2, alpha=4.0), seed=seed)
        self.original = self.policy.original()
        self.guard.watch = self.policy
        self.nudge(seed)

    def _read_policy(self) -> Policy | None:
        self.asked_for_policy = True
        return self.policy

    @torch.no_grad()
    def nudge(self, seed: int) -> None:
        """Move everything that the policy trains, as an optimiser step would."""
        assert self.policy is not None
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.policy.trainable().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


class Bench:
    """Everything the checks need to know of one scorer.

    Args:
        spec: a scorer class, a name, `file.py:Class`, `module:Class`, or a mapping with `name` and settings.
        world: corpus and models.
        params: settings on top of those in `spec`.
        tolerance: how far two results that should be equal may be apart, as a share of the spread of the scores.
        registry: where names are looked up; None: everything installed.

    Raises:
        PluginError, ConfigError: there is no such scorer, or its settings are wrong.
    """

    def __init__(
        self,
        spec: ScorerSpec,
        world: World,
        *,
        params: Mapping[str, Any] | None = None,
        tolerance: float = 1e-3,
        registry: PluginRegistry | None = None,
    ) -> None:
        if isinstance(spec, Scorer):
            raise ConfigError(f"The contract needs several fresh scorers: give the class {type(spec).__name__}, not an object.")
        if "name" in (params or {}):
            raise ConfigError("params are settings of the scorer; 'name' is the word that picks it and no setting.")
        self.spec = {**(spec if isinstance(spec, Mapping) else {"name": spec}), **(params or {})}
        self.world = world
        self.tolerance = tolerance
        self.registry = registry or PluginRegistry()
        first = self.make()
        self.cls = type(first)
        self.name = self.cls.name
        self.origin = str(self.registry.origin(self.cls))
        self._stages: dict[str, Stage | Exception] = {}

    def make(self) -> Scorer:
        """A new scorer, not yet fitted."""
        return self.registry.make(self.spec)

    def fit(self, change: Callable[[ScorerContext], ScorerContext] = lambda context: context, *, seed: int = 5) -> Stage:
        """A new scorer, fitted; `change` makes another context of the usual one. Raises ScorerError."""
        return Stage(self.make(), self.world, change, seed)

    @property
    def stage(self) -> Stage:
        """The scorer that most checks share, fitted once; a failure to fit is raised again for each of them."""
        return self._kept("stage")

    @property
    def spare(self) -> Stage:
        """A second one, fitted with the same seed, for checks that change something around it (fits may be expensive)."""
        return self._kept("spare")

    def drop_spare(self) -> None:
        """Forget the second scorer, which somebody has closed; whoever asks for it next gets a new one."""
        self._stages.pop("spare", None)

    def _kept(self, which: str) -> Stage:
        if which not in self._stages:
            try:
                self._stages[which] = self.fit()
            except Exception as error:
                self._stages[which] = error
        kept = self._stages[which]
        if isinstance(kept, Exception):
            raise kept
        return kept

    @property
    def guard(self) -> GuardedScorer:
        """The shared scorer behind the engine's wall."""
        return self.stage.guard

    @cached_property
    def rows(self) -> Rows:
        """What it is asked about: `World.rows`."""
        return self.world.rows

    @cached_property
    def scores(self) -> Tensor:
        """[B] scores of `rows`."""
        return self.guard.score(self.rows)

    @cached_property
    def table(self) -> Tensor:
        """[B, owners] scores of `rows` against every owner, asked one by one."""
        owners = self.world.corpus.owners
        return torch.stack([self.guard.score(self.rows.about([owner] * len(self.rows))) for owner in owners], 1)

    @cached_property
    def allowed(self) -> float:
        """How far apart two results that should be equal may be."""
        return self.tolerance * float(self.table.max() - self.table.min()) + ROUNDING * float(self.table.abs().max())

    def same(self, got: Tensor, expected: Tensor, what: str) -> None:
        """Raise ContractFailure where two results of any shape that should be equal are not, naming the worst place."""
        apart = (got - expected).abs()
        if not apart.numel() or float(apart.max()) <= self.allowed:
            return
        place = (apart == apart.max()).nonzero()[0].tolist()
        row = f"row {place[0]}" + (f", column {place[1]}" if len(place) > 1 else "")
        raise ContractFailure(
            f"{what}: {row} got {float(got[tuple(place)]):.6g}, expected {float(expected[tuple(place)]):.6g} "
            f"(allowed difference {self.allowed:.2g}, tolerance {self.tolerance:g})"
        )

    @cached_property
    def cost(self) -> Cost:
        """What the scorer costs; measured when first asked for, with everything warm."""
        rows, guard = self.rows, self.guard
        guard.score(rows)
        start = guard.seconds
        guard.score(rows)
        middle = guard.seconds
        lengths = rows.batch.response_lengths
        guard.score_prefixes(rows, (lengths[:, None] * torch.arange(1, SLICES + 1) / SLICES).ceil().long())
        return Cost(self.stage.fit_seconds, (middle - start) / len(rows), (guard.seconds - middle) / len(rows))
