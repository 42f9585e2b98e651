"""How the checks ask: other orders, fair prefix ends, unusual rows beside usual ones, worlds in which a scorer may refuse."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deattrib.attribution.context import ScorerContext
from deattrib.attribution.scorer import Rows
from deattrib.errors import ScorerError
from deattrib.testing.bench import Bench, ContractSkip, Stage


def shuffled(count: int) -> list[int]:
    """0 to count - 1 in another order, always the same one."""
    return [int(i) for i in torch.randperm(count, generator=torch.Generator().manual_seed(3))]


def take(rows: Rows, index: list[int]) -> Rows:
    """Some rows in a given order, padding kept."""

    def pick(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(values[i] for i in index)

    return Rows(pick(rows.prompts), pick(rows.responses), pick(rows.owners), rows.batch.rows(torch.tensor(index)))


def needs(bench: Bench, method: str) -> None:
    """Skip the check where the scorer leaves an optional method to the engine."""
    if not bench.cls.overrides(method):
        raise ContractSkip(f"it does not override {method}: the engine fills it in")


def ends_of(context: ScorerContext, rows: Rows, count: int = 4) -> Tensor:
    """[B, count] token counts, spread over each response, the last one the whole of it; no name is cut in two.

    Scorers may treat names apart (leave them out, swap them), and half a name is no name.
    """
    inside = context.name_mask(rows)
    ends = []
    for mask, length in zip(inside.tolist(), rows.batch.response_lengths.tolist(), strict=True):
        fair = [end for end in range(1, length + 1) if end == length or not (mask[end - 1] and mask[end])]
        ends.append([fair[round((len(fair) - 1) * (step + 1) / count)] for step in range(count)])
    return torch.tensor(ends)


def ask_everything(bench: Bench, stage: Stage, rows: Rows) -> None:
    """Every method that the scorer has; the guard looks at what comes back and at what is left behind."""
    lengths = rows.batch.response_lengths
    stage.guard.score(rows)
    stage.guard.score_prefixes(rows, torch.stack([(lengths + 1) // 2, lengths], 1))
    stage.guard.score_owners(rows, bench.world.corpus.owners)
    if bench.cls.overrides("score_tokens"):
        stage.guard.score_tokens(rows)


def among_others(bench: Bench, texts: list[str], beside: int | None = None) -> None:
    """Ask about the usual rows, or the first few, with some odd ones behind them."""
    rows = bench.rows[:beside]
    prompts, owners = [rows.prompts[0]] * len(texts), [rows.owners[-1]] * len(texts)
    both = Rows.from_texts(bench.world.codec, [*rows.prompts, *prompts], [*rows.responses, *texts], [*rows.owners, *owners])
    bench.same(bench.guard.score(both)[: len(rows)], bench.scores[:beside], "with odd rows in the same batch")
    ask_everything(bench, bench.stage, both)


def works_or_refuses(bench: Bench, change: Callable[[ScorerContext], ScorerContext], owner: str | None) -> None:
    """Fit in a changed context and score, about `owner` if given; an error that the scorer raises knowingly is no failure."""
    rows = bench.rows if owner is None else bench.rows.about([owner] * len(bench.rows))
    try:
        stage = bench.fit(change)
        stage.guard.score(rows)
    except ScorerError as error:
        if not error.refusal:
            raise
