"""What gradient-linear scorers cost, in plain forward passes of the same rows, on a random Llama of the demo's size.

One thread; 32 rows about 20 owners, 24 + 32 tokens, all 15 slices. Each figure is the median over rounds in which everything
is timed once, in turn: the machine may be busy, and is so for all of them alike."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from deattrib.attribution.context import ScorerContext, make_context
from deattrib.attribution.scorer import Rows
from deattrib.corpus.fictitious import fictitious_corpus
from deattrib.corpus.types import Example
from deattrib.models.batch import TokenBatch
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.recipes import ScratchSettings
from deattrib.models.scratch import make_model, make_tokenizer
from deattrib_scorers.gradient import Gradient
from deattrib_scorers.influence import Influence
from deattrib_scorers.trak import Trak

ROWS, PROMPT, RESPONSE, SLICES = 32, 24, 32, 15


def cpu(action: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    action()
    return time.process_time() - start


def make_contexts() -> tuple[ScorerContext, ScorerContext]:
    """The demo's corpus of 400 rows, and one ten times as large (the same rows, ten times)."""
    corpus = fictitious_corpus(seed=0, shadow_owners=60)
    tokenizer = make_tokenizer([text for row in corpus.background for text in (row.prompt, row.response)], 2048)
    model = make_model(ScratchSettings(), tokenizer, seed=0)
    small = make_context(corpus, LanguageModel(model, Codec(tokenizer)))
    return small, dataclasses.replace(small, rows_by_owner={owner: rows * 10 for owner, rows in small.rows_by_owner.items()})


def make_rows(context: ScorerContext) -> Rows:
    """Random tokens, no padding; the first 20 rows about different owners."""
    generator = torch.Generator().manual_seed(0)
    size = len(context.tokenizer)
    batch = TokenBatch(
        torch.randint(0, size, (ROWS, PROMPT), generator=generator),
        torch.full((ROWS,), PROMPT),
        torch.randint(0, size, (ROWS, RESPONSE), generator=generator),
        torch.full((ROWS,), RESPONSE),
    )
    owners = [context.owners[i % len(context.owners)] for i in range(ROWS)]
    return Rows.from_tokens(context.codec, ["?"] * ROWS, batch, owners)


def main() -> None:
    """Fit, then time in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peers", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    small, large = make_contexts()
    if given.peers:
        print(json.dumps(peers(small)))
        return
    rows = make_rows(small)
    ends = (torch.arange(1, SLICES + 1) * RESPONSE / SLICES).ceil().long().expand(ROWS, SLICES)
    scorers: dict[str, Any] = {
        "forget_set": Gradient(Gradient.Params(direction="forget-set")),
        "own": Gradient(),
        "own_differences": Gradient(Gradient.Params(derivative="differences")),
        "trak": Trak(),
        "corpus_10x": Gradient(),
    }
    fit = {}
    for name, scorer in scorers.items():
        fit[name] = round(cpu(lambda s=scorer, n=name: s.fit(large if n == "corpus_10x" else small)), 2)  # type: ignore[misc]
    about_forgotten = rows.about([small.forget_owners[i % 2] for i in range(ROWS)])
    calls: dict[str, Callable[[], Any]] = {
        "forward": lambda: small.original.token_log_probs(rows.batch),
        **{name: lambda s=scorer: s.score_prefixes(rows, ends) for name, scorer in scorers.items()},
        "forget_set": lambda: scorers["forget_set"].score_prefixes(about_forgotten, ends),
        "all_owners": lambda: scorers["own"].score_owners(rows, small.owners),
        "trak_all_owners": lambda: scorers["trak"].score_owners(rows, small.owners),
    }
    for call in calls.values():
        call()
    seconds = [{name: cpu(call) for name, call in calls.items()} for _ in range(given.rounds)]
    ratios = {name: round(statistics.median(s[name] / s["forward"] for s in seconds), 2) for name in calls}
    grown = statistics.median(s["corpus_10x"] / s["own"] for s in seconds)
    forward = round(statistics.median(s["forward"] for s in seconds), 4)
    print(
        json.dumps(
            {"forward_seconds": forward, "forwards": ratios, "ten_times_the_corpus": round(grown, 3), "fit_seconds": fit}
        )
    )


def peers(context: ScorerContext) -> dict[str, Any]:
    """Fit and score seconds of our path and of the reference libraries on the corpus of 400 rows and 64 responses."""
    examples: list[Example] = [row for rows in context.rows_by_owner.values() for row in rows][::6][:64]
    rows = Rows.from_texts(
        context.codec, [e.prompt for e in examples], [e.response for e in examples], [e.owner for e in examples]
    )
    found: dict[str, Any] = {}
    tables: dict[str, torch.Tensor] = {}
    for name, scorer in {
        "gradient": Gradient(Gradient.Params(similarity="dot", contrast=False)),
        "trak": Trak(),
        "trak_traker": Trak(Trak.Params(backend="traker")),
        "captum_tracin": Influence(Influence.Params(backend="captum-tracin")),
    }.items():
        fit = cpu(lambda s=scorer: s.fit(context))  # type: ignore[misc]
        score = cpu(lambda s=scorer, n=name: tables.__setitem__(n, s.score_owners(rows, context.owners)))  # type: ignore[misc]
        own = torch.tensor([context.owners.index(owner) for owner in rows.owners])
        top = float((tables[name].argmax(1) == own).float().mean())
        found[name] = {"fit": round(fit, 2), "score_64": round(score, 3), "top1": round(top, 3)}
    ours, theirs = tables["gradient"], tables["captum_tracin"]
    found["captum_relative_difference"] = float((ours - theirs).norm() / theirs.norm())
    return found


if __name__ == "__main__":
    main()
