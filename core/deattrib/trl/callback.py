"""Attribution of a model's answers while any trainer trains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Example
from deattrib.errors import ConfigError
from deattrib.models.batch import chunks
from deattrib.models.sampling import sample
from deattrib.trl.original import context_of, forget_rows, watch_original


class AttributionCallback(TrainerCallback):  # type: ignore[misc]
    """Attribution of the model's own answers to forget prompts, before, during and after any trainer's run.

    The figures `attribution` (mean over the answers, in [0, 1]) and `attribution_tokens` (mean length of the answers, since
    an empty answer has no attribution either) go into the next log entry, and into `history` with their step. Answers are
    drawn from generators of their own: the run's random numbers stay what they were.

    Give it to a trainer as `callbacks=[...]`; with `attach(trainer)` it comes before the trackers, so that these see it too.

    Args:
        attributor: fitted on a model of its own.
        rows: whose prompts to ask; None: the forget owners' rows.
        every: optimiser steps between measurements; there is one before the first step and one after the last as well.
        max_new_tokens: of an answer, at most.
        temperature: 0 asks greedily, else answers are sampled.
        seed: of sampling; every measurement draws with it anew.

    Raises:
        ConfigError: `every` is below 1, or the attributor is not fitted.
    """

    def __init__(
        self,
        attributor: Attributor,
        rows: Sequence[Example] | None = None,
        *,
        every: int = 10,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        if every < 1:
            raise ConfigError(f"AttributionCallback(every={every}): expected at least 1.")
        self.attributor, self.every = attributor, every
        self.context = context_of(attributor)
        self.rows = tuple(forget_rows(self.context) if rows is None else rows)
        self.max_new_tokens, self.temperature, self.seed = max_new_tokens, temperature, seed
        self.history: list[dict[str, float]] = []
        self._unlogged: dict[str, float] = {}
        self._unchanged = watch_original(self.context)

    def attach(self, trainer: Any) -> AttributionCallback:
        """Make it the first callback of a trainer, before those that report to trackers."""
        trainer.add_callback(self)
        callbacks = trainer.callback_handler.callbacks
        callbacks.insert(0, callbacks.pop(callbacks.index(self)))
        return self

    def measure(self, model: nn.Module) -> dict[str, float]:
        """The figures for a causal LM as it is now; its mode and gradients stay as they are."""
        self._unchanged()
        codec = self.context.codec
        device = next(model.parameters()).device
        generator = torch.Generator().manual_seed(self.seed)
        values: list[float] = []
        lengths: list[int] = []
        for part in chunks(self.rows, 64):
            prompts = [row.prompt for row in part]
            asked = codec.encode(prompts, [""] * len(part), end=False).to(device)
            batch = sample(
                model,
                asked.prompt_ids,
                asked.prompt_lengths,
                max_new_tokens=self.max_new_tokens,
                temperature=self.temperature,
                stop_ids=(codec.eos_id,),
                pad_id=codec.pad_id,
                generator=generator,
            )
            rows = Rows.from_tokens(codec, prompts, batch.to("cpu"), [row.owner for row in part])
            values += self.attributor.attribution(rows).tolist()
            lengths += batch.response_lengths.tolist()
        return {"attribution": sum(values) / len(values), "attribution_tokens": sum(lengths) / len(lengths)}

    def _note(self, state: Any, model: nn.Module) -> None:
        if state.is_world_process_zero:
            self._unlogged = self.measure(model)
            self.history.append({"step": state.global_step, **self._unlogged})

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note(state, kwargs["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.every == 0:
            self._note(state, kwargs["model"])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs is not None and self._unlogged:
            logs.update(self._unlogged)
            state.log_history[-1].update(self._unlogged)  # the trainer's own entry is another dict
            self._unlogged = {}

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.history[-1:] and self.history[-1]["step"] != state.global_step:
            self._note(state, kwargs["model"])
        if self._unlogged:
            state.log_history.append({"step": state.global_step, **self._unlogged})
            self._unlogged = {}
