"""`Attributor`: scorers, fitted and calibrated, as one source of attribution in [0, 1].

The same object is the reward of a run, a row of a report, and a tool of its own:

    Attributor("classifier").fit(corpus, model).attribution(rows)

Standing alone it takes what is at hand: a `Corpus`, a JSONL file or dicts; a `LanguageModel`, or a model of transformers
with its tokenizer; `Rows`, or tuples of prompt, response and owner (see `deattrib.attribution.inputs`).
"""

from __future__ import annotations

import math
import reprlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from deattrib.attribution.context import ScorerContext, make_context
from deattrib.attribution.guard import GuardedScorer
from deattrib.attribution.inputs import CorpusLike, ModelLike, RowsLike, as_corpus, as_language_model, as_rows
from deattrib.attribution.parts import Part, measure_scale, repeats_itself, unrepeatable, varies_and_repeats
from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.scorer import Rows, Scorer
from deattrib.attribution.settings import CalibrationSettings, GuardSettings
from deattrib.attribution.witnesses import Witnesses, gather_witnesses
from deattrib.errors import ConfigError, ScorerError, did_you_mean
from deattrib.models.language_model import Codec

ScorerSpec = str | Mapping[str, Any] | type[Scorer] | Scorer


class Attributor:
    """Calibrated attribution by one scorer or a weighted mix.

    Args:
        scorers: a name, `file.py:Class`, `module:Class`, a mapping with `name`, `weight` and the scorer's own
            settings, a scorer class or object, or a list of those. Weights are normalised to sum 1.
        registry: where names are looked up; None: everything installed.
        calibration: how the scale is measured.
        target: "own": attribution to the row's owner. "forgotten": the maximum over the forget owners, so that
            nothing is won by moving from one forgotten owner to another.
        guard: how long a scorer's call may take, and what becomes of scores that are not finite.

    Raises:
        ConfigError: no scorer, a weight that is no number above 0, settings that a scorer does not have. PluginError: no such
            scorer.
    """

    def __init__(
        self,
        scorers: ScorerSpec | Sequence[ScorerSpec] = "classifier",
        *,
        registry: PluginRegistry | None = None,
        calibration: CalibrationSettings | None = None,
        target: Literal["own", "forgotten"] = "own",
        guard: GuardSettings | None = None,
    ) -> None:
        self.guard = guard or GuardSettings()
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
            weight = _weight(spec)
            spec = {key: value for key, value in spec.items() if key != "weight"}
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
        """Per scorer: name, fidelity, weight, origin, calibration quality."""
        return [part.report() for part in self._parts]

    @property
    def scales(self) -> list[dict[str, list[float]] | None]:
        """Per scorer what its scores are measured by: "edges" of lengths in tokens, "low" and "high" of each; None: nothing."""
        found = [part.calibration for part in self._parts]
        return [None if one is None else {name: [*getattr(one, name)] for name in ("edges", "low", "high")} for one in found]

    @property
    def policy_changed(self) -> bool:
        """Whether a scorer wrote to the watched module: what that holds now must not be saved."""
        return any(part.guard.policy_changed for part in self._parts)

    @property
    def ceiling(self) -> bool:
        """Whether a scorer has seen models retrained without the owners: what it rewards says how far a perfect scorer gets."""
        return any(part.guard.fidelity == "exact" for part in self._parts)

    @property
    def seconds(self) -> float:
        """Time spent inside the scorers so far."""
        return sum(part.guard.seconds for part in self._parts)

    @property
    def masked(self) -> int:
        """Scores so far that were not finite and were replaced (`guard.on_nonfinite: mask`)."""
        return sum(part.guard.masked for part in self._parts)

    # -- getting ready ------------------------------------------------------------------------------------------------
    def fit(
        self,
        corpus: CorpusLike,
        model: ModelLike | None = None,
        tokenizer: Any = None,
        *,
        forget: int | str | Sequence[str] | None = None,
        base: ModelLike | None = None,
        seed: int = 0,
        cache: Path | None = None,
        context: ScorerContext | None = None,
        proxy_context: ScorerContext | None = None,
        witnesses: Witnesses | None = None,
        watch: torch.nn.Module | None = None,
    ) -> Attributor:
        """Fit and calibrate every scorer on the original model.

        Args:
            corpus: whose owners responses are attributed to: a `Corpus`, a JSONL file, or dicts with its columns.
            model: the original model: a `LanguageModel`, or a model of transformers, which is copied.
            tokenizer: of a model of transformers (a `Codec` too, where a prompt template is needed).
            forget: who is to be forgotten; None: as the corpus says, see `as_corpus`. The scale is measured on the prompts
                of these owners.
            base: the model before it was trained on the owners, for scorers that compare with it.
            seed: everything random of scorers follows from it. cache: a folder for what can be kept; None: nothing is.
            context: instead of `model` and `base`, a context made elsewhere. proxy_context: what scorers of fidelity "proxy"
                or "control" are fitted on instead (half of the rows, when a referee of the same kind judges on the other half).
            witnesses: sampled answers with and without the owner; None: they are sampled here.
            watch: a module that no scorer may touch.

        Raises:
            ConfigError, CorpusError, ModelError: what was given cannot be used. CalibrationError: a scorer cannot tell the
                owner's answers from others'. ScorerError: a scorer refuses, or breaks the rules.
        """
        if context is None:
            if model is None:
                raise ConfigError("Attributor.fit needs the original model.")
            original = as_language_model(model, tokenizer, name="original")
            below = None if base is None else as_language_model(base, original.codec, name="base")
            context = make_context(as_corpus(corpus, forget), original, base=below, seed=seed, cache=cache)
        self.context, self._parts = context, []
        total = sum(weight for _, weight in self._made)
        for scorer, weight in self._made:
            named = {"name": scorer.name, "origin": str(self.registry.origin(type(scorer)))}
            guard = GuardedScorer(scorer, codec=context.codec, watch=watch, settings=self.guard, **named)
            learns = scorer.fidelity in ("proxy", "control") and proxy_context is not None
            guard.fit(proxy_context if learns and proxy_context is not None else context)
            calibration, repeats = None, None
            says_nothing = scorer.fidelity == "control" and scorer.calibrate_as() is scorer  # and is meant to
            if self.settings.enabled and not says_nothing:
                witnesses = witnesses or gather_witnesses(context, self.settings)
                calibration = measure_scale(guard, witnesses, self.settings)
                repeats = repeats_itself(guard, witnesses.own)
            elif not says_nothing:
                repeats = varies_and_repeats(guard, context)
            guard.release_original()
            self._parts.append(Part(guard, calibration, weight / total, repeats))
        for message in unrepeatable(self._parts):
            warnings.warn(message, stacklevel=2)
        return self

    def watch(self, module: torch.nn.Module) -> None:
        """From now on no scorer call may touch `module` (the policy)."""
        for part in self._parts:
            part.guard.watch = module

    def at_step(self, step: int | None) -> None:
        """The step that messages name from now on."""
        for part in self._parts:
            part.guard.step = step

    # -- attribution --------------------------------------------------------------------------------------------------
    def attribution(self, rows: RowsLike, ends: Tensor | None = None) -> Tensor:
        """Attribution in [0, 1] on the CPU, float32.

        Args:
            rows: B responses: `Rows`, or a list of (prompt, response, owner).
            ends: [B, k] token counts of the prefixes to attribute; None: the whole responses.

        Returns:
            [B], or [B, k]. Raises ConfigError before `fit`, and on a row without an owner; ScorerError.
        """
        rows = as_rows(rows, *self._fitted("attribution"))
        if self.target == "own":
            if "" in rows.owners:
                raise ConfigError(f"Row {rows.owners.index('')} has no owner to attribute to; attributions() needs none.")
            return self._mixed(rows, ends)
        owners = self.context.forget_owners if self.context else ()
        return torch.stack([self._mixed(rows.about([owner] * len(rows)), ends) for owner in owners]).amax(0)

    def attributions(
        self, rows: RowsLike, owners: Sequence[str] | None = None, *, scores: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Attribution to several owners: [B, owners] in [0, 1], whoever the rows belong to.

        The scale is the one measured on the forget owners. Raises ConfigError before `fit`, and as `scores`.

        Args:
            rows: B responses; their own owners may be missing.
            owners: columns of the result; None: all owners of the corpus, in its order.
            scores: what `scores` gave for the same rows and owners, where it has been asked already.
        """
        rows = as_rows(rows, *self._fitted("attributions"))
        lengths = rows.batch.response_lengths.cpu()[:, None]
        raw = self.scores(rows, owners) if scores is None else scores
        total = torch.zeros(next(iter(raw.values())).shape)
        for part, values in zip(self._parts, raw.values(), strict=True):
            total = total + part.weight * part.calibrated(values, lengths.expand_as(values))
        return total

    def scores(self, rows: RowsLike, owners: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Raw scores, each on its own scale: name -> [B, owners]. Raises ConfigError on an owner that the corpus lacks."""
        codec, known = self._fitted("scores")
        rows = as_rows(rows, codec, known)
        wrong = [owner for owner in owners or () if owner not in known]
        if wrong:
            raise ConfigError(f"Owner {wrong[0]!r} is not in the corpus.{did_you_mean(wrong[0], known)}")
        columns = tuple(known if owners is None else owners)
        names = [part.guard.name for part in self._parts]
        keys = [name if names.count(name) == 1 else f"{name}#{index + 1}" for index, name in enumerate(names)]
        return {key: part.guard.score_owners(rows, columns) for key, part in zip(keys, self._parts, strict=True)}

    def _fitted(self, what: str) -> tuple[Codec, tuple[str, ...]]:
        """Codec and owners that it was fitted with."""
        if self.context is None:
            raise ConfigError(f"Attributor.{what} before Attributor.fit.")
        return self.context.codec, self.context.owners

    def _mixed(self, rows: Rows, ends: Tensor | None) -> Tensor:
        total = torch.zeros(len(rows) if ends is None else ends.shape)
        for part in self._parts:
            total = total + part.weight * part.attribution(rows, ends)
        return total

    def rows(self, prompts: Sequence[str], responses: Sequence[str], owners: Sequence[str]) -> Rows:
        """B rows for `attribution` from texts. Raises ConfigError before `fit`."""
        return Rows.from_texts(self._fitted("rows")[0], prompts, responses, owners)

    def token_scores(self, rows: Rows) -> Tensor | None:
        """[B, T] raw token scores of the first scorer that has them, else None."""
        for part in self._parts:
            if type(part.guard.scorer).overrides("score_tokens"):
                return part.guard.score_tokens(rows)
        return None

    def close(self) -> None:
        """Let all scorers free what they took. One that cannot costs a warning: whatever was wanted of it is there."""
        for part in self._parts:
            try:
                part.guard.close()
            except ScorerError as error:
                warnings.warn(str(error), stacklevel=2)


def _weight(spec: Mapping[str, Any]) -> float:
    """The weight in a scorer's mapping. Raises ConfigError where it is no finite number above 0."""
    given = spec["weight"]
    try:
        weight = 0.0 if isinstance(given, bool) else float(given)
    except (OverflowError, TypeError, ValueError):
        weight = 0.0
    if not 0 < weight < math.inf:
        raise ConfigError(
            f"The weight of scorer {spec.get('name')!r} is {reprlib.repr(given)}: expected a number above 0, such as 0.5."
        )
    return weight
