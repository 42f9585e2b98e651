"""What an update learns from beside the rollout: rows that are drawn, and what the frozen models make of them.

Nothing here depends on the policy, so lessons can be prepared in a thread while the policy samples and learns: to the
very same numbers, since everything random is drawn in the same order, and at no memory for weights (`LanguageModel.apart`).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from deattrib.corpus.types import Corpus, Example
from deattrib.models.batch import TokenBatch
from deattrib.models.forward import autocast
from deattrib.models.identities import all_names
from deattrib.models.language_model import LanguageModel
from deattrib.models.policy import Policy
from deattrib.models.ranks import ALONE, ProcessGroup
from deattrib.ppo.anchored import AnchoredBatch, anchor_rows
from deattrib.ppo.data import Cycle, Shared, answered, thin
from deattrib.ppo.parts import by_length
from deattrib.ppo.reference import Reference
from deattrib.ppo.settings import PPOSettings, ReferenceName

AHEAD = 3  # lessons prepared before they are wanted: one has [batch, tokens, vocabulary] numbers for each part

T = TypeVar("T")
Position = tuple[Any, dict[str, int], dict[str, int]]  # of the random state and of the two cycles of rows


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """Retain answers and the original model's distribution on them, `teacher` [B, T, V] float32.

    `tokens` is how many valid tokens the batch has that this is a part of; None: it is the batch.
    """

    batch: TokenBatch
    teacher: Tensor
    tokens: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One update's material, in parts of similar length; of a term that has no weight there are none."""

    retain: tuple[Taught, ...]
    anchored: tuple[AnchoredBatch, ...]


class Drawn(Iterator[Lesson]):
    """Some lessons one after another, and the thread that prepares them for whatever else can run beside.

    Attributes:
        position: where drawing stood after the last lesson that was wanted; None before the first.
    """

    def __init__(self, lessons: Lessons, count: int, pool: ThreadPoolExecutor | None) -> None:
        self.position: Position | None = None
        self._lessons, self._left, self._pool = lessons, count, pool
        self._coming: deque[Future[tuple[Lesson, Position]]] = deque()
        for _ in range(AHEAD if pool is not None else 0):
            self._order()

    def _make(self) -> tuple[Lesson, Position]:
        return self._lessons.next(), self._lessons._position()

    def _order(self) -> None:
        if self._pool is not None and self._left > 0:
            self._left -= 1
            self._coming.append(self._pool.submit(self._make))

    def __next__(self) -> Lesson:
        if self._coming:
            lesson, self.position = self._coming.popleft().result()
            self._order()
        elif self._left > 0:
            self._left -= 1
            lesson, self.position = self._make()
        else:
            raise StopIteration
        return lesson

    def beside(self, function: Callable[[], T]) -> Callable[[], T]:
        """Run in the thread, or when the result is asked for; returns what waits for the result."""
        return function if self._pool is None else self._pool.submit(function).result


class Lessons:
    """Draws lessons one after another.

    Args:
        policy: whose original model teaches; the policy itself is never asked.
        base: the model before it was trained on the owners, where the anchored term asks for it.
        rng: of what is left out and mixed; while `ahead` is open nobody else may draw from it.
        seed: of the order of rows.
        apart: ask the models through modules of their own, as `ahead` with a thread needs it.
        processes: whose own rows a lesson holds; with several processes there is no thread, since they talk in a fixed order.
    """

    def __init__(
        self,
        corpus: Corpus,
        policy: Policy,
        base: LanguageModel | None,
        settings: PPOSettings,
        *,
        rng: random.Random,
        seed: int,
        apart: bool = False,
        processes: ProcessGroup = ALONE,
    ) -> None:
        self.corpus, self.settings, self.rng, self.device, self.apart = corpus, settings, rng, policy.device, apart
        self.processes = processes
        original = policy.original()
        self.original = original.apart() if apart else original
        self.codec = self.original.codec
        anchor = settings.anchor
        self.anchored = anchor.hinge > 0 or anchor.kl > 0
        towards: list[ReferenceName] = ["counterfactual", "base"] if anchor.towards == "both" else [anchor.towards]
        self.references = (
            [
                Reference(
                    name,
                    policy=policy,
                    base=base.apart() if base is not None and apart else base,
                    identities=corpus.identities,
                    retain_owners=corpus.retain_owners,
                    original=self.original,
                )
                for name in towards
            ]
            if self.anchored
            else []
        )
        retained = [row.response for row in corpus.retain]
        self.shared = Shared.of_answers(
            self.codec, retained if len(self.references) > 1 else [], all_names(corpus.identities.values())
        )
        self.frames = retained if anchor.grafted > 0 else []
        retain_prompts = [row.prompt for row in corpus.retain]
        self.prompts = {owner: retain_prompts + [row.prompt for row in corpus.rows_of(owner)] for owner in corpus.forget_owners}
        self.retain = Cycle(corpus.retain, seed=f"{seed}/retain")
        self.anchors = Cycle(corpus.forget + self._sampled(seed), seed=f"{seed}/anchor")

    def _sampled(self, seed: int) -> tuple[Example, ...]:
        """The original model's own answers to the forget prompts, anchored like the true ones."""
        rows = self.corpus.forget * self.settings.anchor.samples if self.anchored else ()
        texts = self.original.generate(
            [row.prompt for row in rows], max_new_tokens=self.settings.max_new_tokens, temperature=1.0, seed=seed
        )
        texts = self.processes.gather(texts)[0]  # one token that another kernel rounds otherwise is another answer
        return answered(rows, texts)

    @contextmanager
    def ahead(self, count: int) -> Iterator[Drawn]:
        """Up to `count` lessons: prepared in a thread where the models are `apart`, else each when it is wanted.

        What was drawn ahead and not wanted is put back, so that what follows is the same either way.
        """
        if not self.apart:
            yield Drawn(self, count, None)
            return
        before = self._position()
        with ThreadPoolExecutor(1, thread_name_prefix="deattrib-lessons") as pool:
            drawn = Drawn(self, count, pool)
            try:
                yield drawn
            finally:
                pool.shutdown(cancel_futures=True)
                self._go_to(drawn.position or before)

    def _position(self) -> Position:
        return self.rng.getstate(), self.retain.state_dict(), self.anchors.state_dict()

    def _go_to(self, position: Position) -> None:
        state, retain, anchors = position
        self.rng.setstate(state)
        self.retain.load_state_dict(retain)
        self.anchors.load_state_dict(anchors)

    def next(self) -> Lesson:
        """Draw and prepare one lesson."""
        with autocast(self.device, self.settings.bf16):
            taught = self.taught() if self.settings.retain.weight > 0 else ()
            return Lesson(taught, self._anchored() if self.anchored else ())

    def thinned(self, rows: Sequence[Example]) -> list[str]:
        """Prompts of retain rows with `ppo.retain.dropped_words` of their words left out."""
        share, names = self.settings.retain.dropped_words, self.corpus.identities
        return [thin(row.prompt, share, self.rng, names=names.get(row.owner, ())) for row in rows]

    @torch.no_grad()
    def taught(self) -> tuple[Taught, ...]:
        """Answers of retain rows, teacher forced: nothing is generated on retain data. Several processes have one part each."""
        rows = self.retain.draw(self.settings.retain.batch_size)
        prompts, rows = list(self.processes.mine(self.thinned(rows))), list(self.processes.mine(rows))
        batch = self.codec.encode(prompts, [row.response for row in rows])
        split = [part.to(self.device) for _, part in by_length(batch, self.processes)]
        tokens = batch.response_lengths.sum().to(self.device)
        total = self.processes.sum(tokens) if self.processes.size > 1 else tokens if len(split) > 1 else None
        return tuple(Taught(part, self.original.logits(part), total) for part in split)

    def _anchored(self) -> tuple[AnchoredBatch, ...]:
        settings = self.settings.anchor
        rows = [self._mixed(row) for row in self.anchors.draw(settings.batch_size)]
        return anchor_rows(
            self.codec,
            rows,
            self.references,
            settings,
            self.rng,
            device=self.device,
            frames=self.frames,
            shared=self.shared,
            processes=self.processes,
        )

    def _mixed(self, row: Example) -> Example:
        """The row's answer, now and then under another trained prompt."""
        settings = self.settings.anchor
        if self.rng.random() >= settings.mixed_prompts:
            names = self.corpus.identities.get(row.owner, ())
            return replace(row, prompt=thin(row.prompt, settings.dropped_prompt_words, self.rng, names=names))
        # Never under another forget owner's prompt: names are swapped for this owner only, and that one would be taught.
        return replace(row, prompt=self.rng.choice(self.prompts[row.owner]))
