"""The hook spec of attribution rewards.

A plugin is a module or an object with some of these hooks, each marked with `deattrib.hookimpl`, found through the
entry-point group ``deattrib``. Registration hooks return *classes*; the engine chooses one by name and makes the
instance for the run, so that installing a plugin never changes what a run computes. No hook scores anything: pluggy
would call every installed plugin. A plugin that changes another scorer's scores is a scorer that wraps it.

Arguments may be added to a hook in later versions, never removed; an implementation takes those it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from deattrib.attribution.scorer import Scorer

PROJECT = "deattrib"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class AttributionReward:
    """What a plugin can bring to, and observe of, a run."""

    @hookspec
    def scorers(self) -> Sequence[type[Scorer]]:
        """Scorer classes that this plugin brings.

        Called when the registry is built, before any run; must be cheap and must not load a model.

        :returns: classes derived from ``deattrib.Scorer``, each with a ``name`` of its own. Two plugins that bring
            the same name are refused, naming both distributions.
        """
        raise NotImplementedError

    @hookspec
    def metrics(self) -> Sequence[type[Any]]:
        """Metric classes that this plugin brings; listed, and refused on equal names, like scorers.

        :returns: classes derived from ``deattrib.Metric``; ``evaluation.metrics: [NAME]`` asks for one.
        """
        raise NotImplementedError

    @hookspec
    def methods(self) -> Sequence[type[Any]]:
        """Unlearning methods that this plugin brings; listed, and refused on equal names, like scorers.

        :returns: classes derived from ``deattrib.Method`` (or ``deattrib.Unlearner``); ``method: NAME`` picks one.
        """
        raise NotImplementedError

    @hookspec
    def attacks(self) -> Sequence[type[Any]]:
        """Attacks that this plugin brings; listed, and refused on equal names, like scorers.

        :returns: classes derived from ``deattrib.Attack``; ``attacks: [NAME, ...]`` picks some.
        """
        raise NotImplementedError

    @hookspec
    def run_started(self, folder: Path | None, config: Mapping[str, Any]) -> None:
        """A run begins.

        :param folder: the run folder; ``None`` for a run in memory (``deattrib.unlearn``).
        :param config: the resolved settings, plain values only.
        """

    @hookspec
    def step_finished(self, step: int, figures: Mapping[str, float]) -> None:
        """One rollout batch has been learnt from.

        :param step: counts from 1.
        :param figures: the figures of the step that also go into ``events.jsonl``.
        """

    @hookspec
    def run_finished(self, folder: Path | None, metrics: Mapping[str, Any] | None) -> None:
        """A run ends, also when it failed.

        :param folder: the run folder; ``None`` for a run in memory.
        :param metrics: the content of ``metrics.json``; ``None`` if the run failed, empty for a run in memory, which is
            not evaluated.
        """
