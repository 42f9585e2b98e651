"""Relearning: a little training on related data. Suppressed knowledge comes back in a few steps; what is gone does not.

Source: Hu et al. 2024 (arXiv 2406.13356), who relearn from a small part of the forget data and from benign data. All weights
are trained by AdamW (constant rate, no weight decay, gradients clipped to 1) on the cross-entropy of answers. Asked are
forget rows whose *fact* is in none of the rows trained on, so that what comes back was not told. Where we deviate: they look
for keywords in completions, we take ROUGE-L recall and the recall of facts; and the rate is not tuned per model: it falls with
the width, 0.04 / width, as Adam's should (Yang et al. 2022, arXiv 2203.03466), which is 3e-4 at 128, low enough that the
demo's original loses little, and 1e-5 at 4096. Weights are float32 here, whatever the model's are; a bfloat16 model is trained
and asked in mixed precision.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from deattrib.attacks.base import Attack, AttackResult, AttackSubject, clusters
from deattrib.corpus.types import Example
from deattrib.errors import CorpusError
from deattrib.evaluation.arrays import mean_of
from deattrib.evaluation.rows import choose_rows
from deattrib.models.forward import autocast
from deattrib.models.language_model import LanguageModel
from deattrib.models.training import answer_loss

RATE_TIMES_WIDTH = 0.04


class Relearning(Attack):
    """Train on a few of the forget rows, ask about other facts of the forget owners."""

    name = "relearning"
    source = "Hu et al. 2024, arXiv 2406.13356"
    what = "ROUGE-L recall of greedy answers about forget facts that were not among the forget rows relearnt."
    x = "gradient steps"

    class Params(Attack.Params):
        rows: int = Field(16, ge=1, description="Rows that are trained on, as many of each owner as can be.")
        steps: tuple[int, ...] = Field((1, 2, 5, 10, 20), min_length=1, description="Numbers of steps to ask after.")
        at: int = Field(10, ge=1, description="The number of steps that the figure is of; one of `steps`.")
        batch_size: int = Field(16, ge=1, description="Rows per step, at most.")
        learning_rate: float | None = Field(None, gt=0, description="Of AdamW; null: 0.04 / width of the model.")

        @model_validator(mode="after")
        def _rising(self) -> Relearning.Params:
            if list(self.steps) != sorted({*self.steps} - {0}):
                raise ValueError("`steps` must rise and begin above 0, such as [1, 2, 5, 10, 20]")
            if self.at not in self.steps:
                raise ValueError(f"`at` is {self.at}, which is none of the steps {list(self.steps)}")
            return self

    def rows(self, subject: AttackSubject) -> tuple[Sequence[Example], Sequence[Example]]:
        """(trained on, asked): never the same fact in both."""
        chosen = choose_rows(subject.corpus.forget, self.params.rows, seed=subject.seed)
        told = set(clusters(chosen))
        others = [row for row, cluster in zip(subject.forget, clusters(subject.forget), strict=True) if cluster not in told]
        if not others:
            raise CorpusError(
                f"Attack {self.name!r}: its {len(chosen)} rows ask for every fact of the forget owners, so none is left to "
                f"come back; set fewer `rows` than {len(set(clusters(subject.corpus.forget)))}."
            )
        return chosen, others

    def run(self, subject: AttackSubject) -> AttackResult:
        trained, asked = self.rows(subject)
        module = subject.copy()
        device, mixed = subject.model.device, next(module.parameters()).dtype == torch.bfloat16
        module.float()
        view = LanguageModel(module, subject.model.codec, name=f"{subject.name}, relearning")
        rate = self.params.learning_rate or RATE_TIMES_WIDTH / width_of(module)
        done, rouge, facts, figure, interval = 0, [], [], None, None
        training = relearn(view, trained, rate=rate, batch_size=self.params.batch_size, seed=subject.seed, mixed=mixed)
        for goal in (0, *self.params.steps):
            for _ in range(goal - done):
                next(training)
            done = goal
            with autocast(device, mixed):
                answers = subject.answers([row.prompt for row in asked], model=view)
            values = subject.rouge(answers, asked)
            rouge.append((float(goal), float(values.mean())))
            facts.append((float(goal), mean_of(subject.facts(answers, asked))))
            if goal == self.params.at:
                figure, interval = float(values.mean()), subject.interval(values, asked)
        known = [(x, y) for x, y in facts if y is not None]
        before, after = (dict(facts)[float(step)] for step in (0, self.params.at))
        return AttackResult(
            figure,
            rouge,
            f"{self.what} Here: {len(trained)} rows, {self.params.at} steps of AdamW at {rate:.2g}, {len(asked)} rows asked.",
            interval,
            {"before": rouge[0][1], "best": max(y for _, y in rouge), "fact_recall": after, "fact_recall_before": before},
            {"fact recall": known} if known else {},
        )


class BenignRelearning(Relearning):
    """Train on retain rows only, ask about the forget owners."""

    name = "relearning-retain"
    what = "ROUGE-L recall of greedy answers to forget prompts after further training on retain rows only."

    class Params(Relearning.Params):
        rows: int = Field(64, ge=1, description="Rows that are trained on, as many of each owner as can be.")

    def rows(self, subject: AttackSubject) -> tuple[Sequence[Example], Sequence[Example]]:
        return choose_rows(subject.corpus.retain, self.params.rows, seed=subject.seed), subject.forget


def relearn(
    model: LanguageModel, rows: Sequence[Example], *, rate: float, batch_size: int, seed: int, mixed: bool = False
) -> Iterator[float]:
    """Train the model's own module, one step per item; the items are the losses before each step.

    The module is trained in eval mode, without dropout; `mixed`: with bfloat16 in its forward passes. Rows come in passes, each
    in an order of its own.
    """
    module, rng = model.model.requires_grad_(True), random.Random(f"relearning-{seed}")
    optimiser = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=0.0)
    queue: list[Example] = []
    while True:
        while len(queue) < min(batch_size, len(rows)):
            queue += rng.sample(rows, len(rows))
        batch, queue = queue[:batch_size], queue[batch_size:]
        optimiser.zero_grad()
        with torch.enable_grad():
            with autocast(model.device, mixed):
                loss = answer_loss(module, model.encode([row.prompt for row in batch], [row.response for row in batch]))
            loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        yield float(loss.detach())


def width_of(module: nn.Module) -> int:
    """Width of the residual stream."""
    config = getattr(module, "config", None)
    text = config.get_text_config() if config is not None else None
    return int(getattr(text, "hidden_size", 0) or np.sqrt(sum(value.numel() for value in module.parameters())))
