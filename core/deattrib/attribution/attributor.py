"""`Attributor`: scorers, fitted and calibrated, as one source of attribution in [0, 1].

The same object is the reward of a run, a row of a report, and a tool of its own:

    Attributor("classifier").fit(corpus, model).attribution(rows)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from deattrib.attribution.calibration import Calibration, fit_calibration
from deattrib.attribution.context import make_context
from deattrib.attribution.guard import GuardedScorer
from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.scorer import Rows, Scorer, ScorerContext
from deattrib.attribution.settings import CalibrationSettings
from deattrib.attribution.witnesses import Witnesses, gather_witnesses
from deattrib.corpus.types import Corpus
from deattrib.errors import CalibrationError, ConfigError
from deattrib.models.language_model import LanguageModel

ScorerSpec = str | Mapping[str, Any] | type[Scorer] | Scorer


@dataclass(frozen=True, slots=True)
class Part:
    """One calibrated scorer with its share of the whole."""

    guard: GuardedScorer
    calibration: Calibration | None
    weight: float

    def attribution(self, rows: Rows, ends: Tensor | None) -> Tensor:
        lengths = rows.batch.response_lengths if ends is None else ends
        raw = self.guard.score(rows) if ends is None else self.guard.score_prefixes(rows, ends)
        if self.calibration is not None:
            return self.calibration(raw, lengths)
        if bool(((raw < 0) | (raw > 1)).any()):
            raise CalibrationError(
                f"Scorer {self.guard.name!r} gives raw scores from {float(raw.min()):.4g} to {float(raw.max()):.4g}; without "
                "calibration they must lie in [0, 1]. Switch calibration on."
            )
        return raw


class Attributor:
    """Calibrated attribution by one scorer or a weighted mix.

    Args:
        scorers: a name, `file.py:Class`, `module:Class`, a mapping with `name`, `weight` and the scorer's own
            settings, a scorer class or object, or a list of those. Weights are normalised to sum 1.
        registry: where names are looked up; None: everything installed.
        calibration: how the scale is measured.
        target: "own": attribution to the row's owner. "forgotten": the maximum over the forget owners, so that
            nothing is won by moving from one forgotten owner to another.
    """

    def __init__(
        self,
        scorers: ScorerSpec | Sequence[ScorerSpec] = "classifier",
        *,
        registry: PluginRegistry | None = None,
        calibration: CalibrationSettings | None = None,
        target: Literal["own", "forgotten"] = "own",
    ) -> None:
        self.registry = registry or PluginRegistry()
        self.settings = calibration or CalibrationSettings()
        self.target = target
        specs = [scorers] if isinstance(scorers, (str, Mapping, type, Scorer)) else list(scorers)
        if not specs:
            raise ConfigError("An attributor needs at least one scorer.")
        self._made = [self._make(spec) for spec in specs]
        self._parts: list[Part] = []
        self.context: ScorerContext | None = None

    def _make(self, spec: ScorerSpec) -> tuple[Scorer, float]:
        weight = 1.0
        if isinstance(spec, Mapping) and "weight" in spec:
            weight = float(spec["weight"])
            spec = {key: value for key, value in spec.items() if key != "weight"}
            if not weight > 0:
                raise ConfigError(f"The weight of scorer {spec.get('name')!r} is {weight}: it must be above 0.")
        if isinstance(spec, Scorer):
            return spec, weight
        if isinstance(spec, type):
            return spec(), weight
        return self.registry.make(spec), weight

    # -- what it is ---------------------------------------------------------------------------------------------------
    @property
    def name(self) -> str:
        """The scorers' names, joined with "+"."""
        return "+".join(scorer.name for scorer, _ in self._made)

    @property
    def chance(self) -> float:
        """Attribution of a response without its owner: 0 when calibrated, else 1 / owners."""
        if self.context is None or all(part.calibration is not None for part in self._parts):
            return 0.0
        controls = all(scorer.fidelity == "control" for scorer, _ in self._made)
        return 0.0 if controls else 1.0 / len(self.context.owners)

    def report(self) -> list[dict[str, Any]]:
        """Per scorer: name, fidelity, weight, seconds and calls so far, calibration quality."""
        return [
            {
                "name": part.guard.name,
                "fidelity": part.guard.scorer.fidelity,
                "weight": part.weight,
                "origin": part.guard.origin,
                "calibration": part.calibration.report if part.calibration else None,
            }
            for part in self._parts
        ]

    @property
    def seconds(self) -> float:
        """Time spent inside the scorers so far."""
        return sum(part.guard.seconds for part in self._parts)

    # -- getting ready ------------------------------------------------------------------------------------------------
    def fit(
        self,
        corpus: Corpus,
        model: LanguageModel | None = None,
        *,
        base: LanguageModel | None = None,
        seed: int = 0,
        cache: Path | None = None,
        context: ScorerContext | None = None,
        proxy_context: ScorerContext | None = None,
        witnesses: Witnesses | None = None,
        watch: torch.nn.Module | None = None,
    ) -> Attributor:
        """Fit and calibrate every scorer on the original model.

        Args:
            corpus: whose owners responses are attributed to.
            model: the original model.
            base: the model before it was trained on the owners, for scorers that compare with it.
            context: instead of `model` and `base`, a context made elsewhere.
            proxy_context: what scorers of fidelity "proxy" or "control" are fitted on instead (half of the rows, when a
                referee of the same kind judges on the other half).
            witnesses: sampled answers with and without the owner; None: they are sampled here.
            watch: a module that no scorer may touch.
        """
        if context is None:
            if model is None:
                raise ConfigError("Attributor.fit needs the original model.")
            context = make_context(corpus, model, base=base, seed=seed, cache=cache)
        self.context = context
        total = sum(weight for _, weight in self._made)
        self._parts = []
        for scorer, weight in self._made:
            origin = str(self.registry.origin(type(scorer)))
            guard = GuardedScorer(scorer, codec=context.codec, name=scorer.name, origin=origin, watch=watch)
            learns = scorer.fidelity in ("proxy", "control") and proxy_context is not None
            guard.fit(proxy_context if learns and proxy_context is not None else context)
            calibration = None
            if self.settings.enabled and not (scorer.fidelity == "control" and scorer.calibrate_as() is scorer):
                if witnesses is None:
                    witnesses = gather_witnesses(context, self.settings)
                calibration = self._calibrate(guard, witnesses)
            self._parts.append(Part(guard, calibration, weight / total))
        return self

    def _calibrate(self, guard: GuardedScorer, witnesses: Witnesses) -> Calibration:
        guard = guard.calibrate_as()
        own_ends, other_ends = witnesses.ends()
        return fit_calibration(
            guard.score_prefixes(witnesses.own, own_ends),
            own_ends,
            guard.score_prefixes(witnesses.other, other_ends),
            other_ends,
            scorer=guard.name,
            source=witnesses.source,
            noise_floor=self.settings.noise_floor,
        )

    def watch(self, module: torch.nn.Module) -> None:
        """From now on no scorer call may touch `module` (the policy)."""
        for part in self._parts:
            part.guard.watch = module

    # -- attribution --------------------------------------------------------------------------------------------------
    def attribution(self, rows: Rows, ends: Tensor | None = None) -> Tensor:
        """Attribution in [0, 1] on the CPU, float32.

        Args:
            rows: B responses.
            ends: [B, k] token counts of the prefixes to attribute; None: the whole responses.

        Returns:
            [B], or [B, k].
        """
        if self.context is None:
            raise ConfigError("Attributor.attribution before Attributor.fit.")
        if self.target == "own":
            return self._mixed(rows, ends)
        owners = self.context.forget_owners
        return torch.stack([self._mixed(rows.about([owner] * len(rows)), ends) for owner in owners]).amax(0)

    def _mixed(self, rows: Rows, ends: Tensor | None) -> Tensor:
        total = torch.zeros(len(rows) if ends is None else ends.shape)
        for part in self._parts:
            total = total + part.weight * part.attribution(rows, ends)
        return total

    def rows(self, prompts: Sequence[str], responses: Sequence[str], owners: Sequence[str]) -> Rows:
        """Rows for `attribution` from texts. Call after `fit`."""
        if self.context is None:
            raise ConfigError("Attributor.rows before Attributor.fit.")
        return Rows.from_texts(self.context.codec, prompts, responses, owners)

    def token_scores(self, rows: Rows) -> Tensor | None:
        """[B, T] raw token scores of the first scorer that has them, else None."""
        for part in self._parts:
            if type(part.guard.scorer).overrides("score_tokens"):
                return part.guard.score_tokens(rows)
        return None

    def close(self) -> None:
        for part in self._parts:
            part.guard.close()
