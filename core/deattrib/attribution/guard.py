"""The wall around every scorer call.

A scorer is foreign code inside a training loop. What it returns is checked (shape, finiteness, detached) and becomes
float32 on the CPU; what it must not touch is compared before and after (policy, random generators, grad and train mode,
the rows). Every message names scorer, origin, method, step, row and owner. Optional methods that a scorer leaves out are
filled in here from `score`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from deattrib.attribution.context import ScorerContext
from deattrib.attribution.loading import describe
from deattrib.attribution.returned import UnusableError, as_numbers, mask_nonfinite
from deattrib.attribution.scorer import Row, Rows, Scorer
from deattrib.attribution.settings import GuardSettings
from deattrib.attribution.traces import ModuleWatch, Snapshot, seed_everything
from deattrib.attribution.watchdog import TookTooLongError, Watchdog
from deattrib.errors import DeattribError, ScorerError
from deattrib.models.language_model import Codec, LanguageModel

# The settings of the call that is going on: a scorer that guards another one inside of it need not know of them.
_AROUND: ContextVar[GuardSettings | None] = ContextVar("guard settings", default=None)


class GuardedScorer:
    """A scorer behind the wall; the engine talks to scorers only through this.

    `score` and its relatives run under `torch.no_grad()`: a scorer that needs gradients asks for them with
    `torch.enable_grad()`. `fit` runs with gradients on, with every global generator seeded from `context.seed`; the
    generators are put back afterwards.

    Args:
        scorer: the scorer itself, kept as `scorer`.
        codec: tokenizer and template, for cutting responses into prefixes.
        name, origin: what messages call it; the name defaults to the scorer's own.
        watch: a module that no call may change, normally the policy. Original and base model are watched from when `fit` asks
            for them; the original until there is a policy, or `release_original`.
        settings: how long a call may take, and what becomes of scores that are not finite; None: those of the guarded call
            that this is made in, else the defaults.

    Attributes:
        step: set by the caller; part of every message.
        seconds: time spent inside the scorer, `fit` included.
        masked: scores so far that were not finite and were replaced.
        policy_changed: the scorer wrote to the watched module; what it holds now must not be saved.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        codec: Codec,
        name: str = "",
        origin: str = "",
        watch: nn.Module | None = None,
        settings: GuardSettings | None = None,
    ) -> None:
        self.scorer = scorer
        self.codec = codec
        self.name = name or scorer.name
        self.origin = str(origin)
        self._watch = watch
        self.settings = settings or _AROUND.get() or GuardSettings()
        self.step: int | None = None
        self.seconds = 0.0
        self.masked = 0
        self.policy_changed = False
        self._closed = False
        self._frozen: dict[str, ModuleWatch] = {}
        self._fitting = False

    @property
    def fidelity(self) -> str:
        """The scorer's: "exact", "approximate", "proxy" or "control"."""
        return self.scorer.fidelity

    def overrides(self, method: str) -> bool:
        """Whether the scorer brings its own version of an optional method."""
        return self.scorer.overrides(method)

    def calibrate_as(self) -> GuardedScorer:
        """The guarded scorer whose scores set the scale; itself unless the scorer wraps another one."""
        inner = self.scorer.calibrate_as()
        if inner is self.scorer:
            return self
        guard = GuardedScorer(inner, codec=self.codec, origin=self.origin, watch=self.watch, settings=self.settings)
        guard._frozen = self._frozen
        return guard

    @property
    def watch(self) -> nn.Module | None:
        """The module that no call may change."""
        return self._watch

    @watch.setter
    def watch(self, module: nn.Module | None) -> None:
        self._watch = module
        self.release_original()

    def release_original(self) -> None:
        """The original model is about to change for good reasons: its weights become a policy's, say."""
        self._frozen.pop("original model", None)

    # -- the calls ---------------------------------------------------------------------------------------------------
    def fit(self, context: ScorerContext) -> None:
        """Let the scorer get ready. Raises ScorerError."""
        original = self._watching("original model", context.load_original)
        base = self._watching("base model", context.load_base) if context.load_base else None
        context = replace(context, load_original=original, load_base=base)
        self._frozen, self._fitting = {}, True
        try:
            with torch.enable_grad(), self._watched("fit", None):
                seed_everything(context.seed)
                # A model retrained without the owners is the oracle in all but name: nothing that is optimised may have one.
                barred = context.retrainer is not None and self.fidelity != "exact"
                self.scorer.fit(replace(context, retrainer=None) if barred else context)
        finally:
            self._fitting = False
            if _AROUND.get() is not None:  # made inside of a guarded call: whoever guards that watches from here on
                self.release_original()

    def score(self, rows: Rows) -> Tensor:
        """[B] float32 on the CPU. Raises ScorerError."""
        if not len(rows):
            return torch.zeros(0)
        return self._call("score", rows, (len(rows),), lambda: self.scorer.score(rows))

    def score_prefixes(self, rows: Rows, ends: Tensor) -> Tensor:
        """Scores of prefixes: ends [B, k] token counts -> [B, k] float32 on the CPU.

        Without an override each different (row, end) is cut and scored once, shortest first, in batches of B.
        Raises ValueError on another shape, ScorerError as `score`.
        """
        if ends.dim() != 2 or len(ends) != len(rows):
            raise ValueError(f"ends has shape {tuple(ends.shape)}: expected [{len(rows)}, k].")
        if not ends.numel():
            return torch.zeros(ends.shape)
        if self.overrides("score_prefixes"):
            given, shape = ends.clone(), tuple(ends.shape)
            return self._call("score_prefixes", rows, shape, lambda: self.scorer.score_prefixes(rows, given))
        return cut_and_score(self.score, rows, ends, self.codec)

    def score_tokens(self, rows: Rows) -> Tensor:
        """Shares of the response tokens: [B, T] float32 on the CPU, 0 at padding.

        Raises ScorerError also where the scorer has no `score_tokens`; ask `overrides` first.
        """
        if not self.overrides("score_tokens"):
            raise ScorerError(f"{self._who()} does not say what each token adds: it does not define score_tokens(rows).")
        mask = rows.batch.response_mask.cpu()
        return self._call("score_tokens", rows, tuple(mask.shape), lambda: self.scorer.score_tokens(rows), mask)

    def score_owners(self, rows: Rows, owners: Sequence[str]) -> Tensor:
        """Scores against several owners: [B, len(owners)] float32 on the CPU; owner by owner without an override."""
        owners = tuple(owners)
        if not len(rows) or not owners:
            return torch.zeros(len(rows), len(owners))
        if not self.overrides("score_owners"):
            return torch.stack([self.score(rows.about([owner] * len(rows))) for owner in owners], 1)
        shape = (len(rows), len(owners))
        return self._call("score_owners", rows, shape, lambda: self.scorer.score_owners(rows, owners), owners=owners)

    def close(self) -> None:
        """Free what the scorer took; the second call does nothing. Raises ScorerError."""
        if self._closed:
            return
        self._closed = True
        with self._watched("close", None):
            self.scorer.close()

    # -- around a call -----------------------------------------------------------------------------------------------
    def _call(
        self,
        method: str,
        rows: Rows,
        shape: tuple[int, ...],
        action: Callable[[], Any],
        mask: Tensor | None = None,
        owners: Sequence[str] = (),
    ) -> Tensor:
        with torch.no_grad(), self._watched(method, rows):
            returned = action()
        most = self.settings.most_masked if self.settings.on_nonfinite == "mask" else None
        try:
            values, masked = mask_nonfinite(as_numbers(returned, shape, mask), most=most, mask=mask)
        except UnusableError as error:
            row = rows[error.place[0] if error.place else 0]
            if owners and error.place:
                row = Row(row.prompt, row.response, owners[error.place[1]])
            self._fail(method, str(error), row, error.__cause__, of=1 if error.place else len(rows))
        if masked:
            if not self.masked:
                what = f"{masked} of {values.numel()} scores are not finite and are masked; further ones are only counted"
                warnings.warn(f"{self._who()} in {method}(){self._at_step()}: {what}.", stacklevel=2)
            self.masked += masked
        return values

    @contextmanager
    def _watched(self, method: str, rows: Rows | None) -> Iterator[None]:
        tensors = {} if rows is None else {f"rows.batch.{key}": getattr(rows.batch, key) for key in rows.batch.__slots__}
        given = () if rows is None else _parts(rows)
        snapshot = Snapshot(self.watch, tensors)
        failure: BaseException | None = None
        start = time.perf_counter()
        still = f"{self._who()} is still in {method}(){self._at_step()}"
        around = _AROUND.set(self.settings)
        try:
            with Watchdog(still, warn_after=self.settings.slow_warning, limit=self.settings.time_limit):
                yield
        except (Exception, SystemExit, TookTooLongError) as error:
            failure = error
        finally:
            _AROUND.reset(around)
            self.seconds += time.perf_counter() - start
            found, lost = snapshot.put_back(may_use_random=method == "fit")
            self.policy_changed |= lost
            found += [text for name, frozen in self._frozen.items() for text in frozen.touched(name)[0]]
        row = rows[0] if rows is not None and len(rows) else None
        if rows is not None and any(one is not other for one, other in zip(given, _parts(rows), strict=True)):
            found.append("it replaced the contents of rows, which are read-only")
        if isinstance(failure, TookTooLongError):
            found.insert(0, f"it was ended after {failure.args[0]:g} s, its limit (guard.time_limit)")
        elif failure is not None:
            found.insert(0, f"it raised {describe(failure, self.origin.split(' ')[0])}")
        if found:
            self._fail(method, "; ".join(found), row, failure, of=len(rows) if rows is not None else 1)

    def _watching(self, name: str, load: Callable[[], LanguageModel]) -> Callable[[], LanguageModel]:
        """`load` for a scorer: a model is looked at when `fit` first asks for it, not before."""

        def loaded() -> LanguageModel:
            model = load()
            if self._fitting and name not in self._frozen:
                self._frozen[name] = ModuleWatch(model.model)
            return model

        return loaded

    # -- messages ----------------------------------------------------------------------------------------------------
    def _who(self) -> str:
        return f"Scorer {self.name!r}" + (f" ({self.origin})" if self.origin else "")

    def _at_step(self) -> str:
        return "" if self.step is None else f" at step {self.step}"

    def _fail(self, method: str, what: str, row: Row | None, cause: BaseException | None = None, *, of: int = 1) -> NoReturn:
        where = "" if row is None else f"owner {_short(row.owner)}, prompt {_short(row.prompt)}"
        where = where and (f" [in a batch of {of} rows, the first: {where}]" if of > 1 else f" [{where}]")
        error = ScorerError(f"{self._who()} in {method}(){self._at_step()}: {what}.{where}")
        error.refusal = isinstance(cause, DeattribError) and getattr(cause, "refusal", True)
        raise error from cause


def cut_and_score(score: Callable[[Rows], Tensor], rows: Rows, ends: Tensor, codec: Codec) -> Tensor:
    """Scores of prefixes for a scorer that only knows whole responses: ends [B, k] -> [B, k].

    `ends` repeats a row's length where the row is short, so each different (row, end) is scored once.
    """
    lengths = rows.batch.response_lengths.cpu()
    cuts = torch.minimum(ends.cpu().long().clamp(min=0), lengths[:, None])
    index = torch.arange(len(rows))[:, None].expand_as(cuts)
    pairs, inverse = torch.unique(torch.stack([cuts.flatten(), index.flatten()], 1), dim=0, return_inverse=True)
    values = []
    for part in pairs.split(len(rows)):  # sorted by length: short prefixes are scored without long padding
        chosen = part[:, 1].tolist()
        some = Rows(
            tuple(rows.prompts[i] for i in chosen),
            tuple(rows.responses[i] for i in chosen),
            tuple(rows.owners[i] for i in chosen),
            rows.batch.rows(part[:, 1].to(rows.batch.response_ids.device)),
        )
        values.append(score(some.cut(codec, part[:, 0])))
    return torch.cat(values)[inverse].view(ends.shape)


def _parts(rows: Rows) -> tuple[object, ...]:
    return rows.prompts, rows.responses, rows.owners, rows.batch


def _short(text: str, most: int = 80) -> str:
    return repr(text if len(text) <= most else text[:most] + "…")
