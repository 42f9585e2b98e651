"""The attributor's side: whether it is fitted, whom to forget, and that its original model is left alone."""

from __future__ import annotations

from collections.abc import Callable

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.context import ScorerContext
from deattrib.corpus.types import Example
from deattrib.errors import ConfigError


def context_of(attributor: Attributor) -> ScorerContext:
    if attributor.context is None:
        raise ConfigError("The attributor must be fitted first: Attributor(...).fit(corpus, model, tokenizer).")
    return attributor.context


def forget_rows(context: ScorerContext) -> list[Example]:
    return [row for owner in context.forget_owners for row in context.rows_by_owner[owner]]


def watch_original(context: ScorerContext) -> Callable[[], None]:
    """A check that the attributor's original model is not the one in training: neither written to nor given an adapter."""

    def state() -> list[tuple[str, int]]:
        return [(name, parameter._version) for name, parameter in context.original.model.named_parameters()]

    before = state()

    def check() -> None:
        if state() != before:
            raise ConfigError(
                "The attributor's original model has changed since: the trainer was given the very same object. Fit it on "
                "a model of its own; Attributor.fit(corpus, model, tokenizer) makes a copy."
            )

    return check
