"""The contract itself: what every scorer must do, one plain function each; pytest and `deattrib check` run this very list.

A check takes a `Bench` and returns nothing; it raises ContractFailure (or the engine's own ScorerError) where the scorer
breaks the contract, ContractSkip where the question does not apply. Its docstring is the sentence in the listing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from deattrib.attribution.context import ScorerContext
from deattrib.attribution.guard import cut_and_score
from deattrib.attribution.loading import check_class
from deattrib.attribution.scorer import Rows
from deattrib.errors import DeattribError
from deattrib.models.language_model import fingerprint
from deattrib.testing.asking import among_others, ask_everything, ends_of, needs, shuffled, take, works_or_refuses
from deattrib.testing.bench import Bench, ContractFailure, ContractSkip
from deattrib.testing.world import rows_of


@dataclass(frozen=True, slots=True)
class Check:
    """One clause of the contract: its name, what it demands, what to mend where it fails, and the function."""

    name: str
    demands: str
    mend: str
    function: Callable[[Bench], None]

    def __call__(self, bench: Bench) -> None:
        """Raise ContractFailure or ContractSkip, or return."""
        try:
            self.function(bench)
        except DeattribError as error:
            raise ContractFailure(str(error)) from error


CHECKS: list[Check] = []


def _check(mend: str) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    def enter(function: Callable[[Bench], None]) -> Callable[[Bench], None]:
        CHECKS.append(Check(function.__name__, " ".join((function.__doc__ or "").split()), mend, function))
        return function

    return enter


# -- what comes back ---------------------------------------------------------------------------------------------------
@_check("Give the class what the message asks for; nothing else can be checked before that.")
def well_formed(bench: Bench) -> None:
    """The class can be registered: derived from Scorer, a proper name, a known fidelity, Params that refuse misspelling."""
    check_class(bench.cls, "scorer")


@_check("Return one finite number per row of `rows`; guard divisions and logarithms against 0.")
def one_finite_number_per_row(bench: Bench) -> None:
    """score(rows) returns one finite number per row, and the same numbers when it is asked again."""
    bench.same(bench.guard.score(bench.rows), bench.scores, "asked a second time")


@_check("Score each row by itself: no statistics of the batch, and padding must not count (use the lengths and masks).")
def any_batch_split(bench: Bench) -> None:
    """The number of a row does not depend on which rows share its batch, nor on how much the batch is padded."""
    rows, count = bench.rows, len(bench.rows)
    for size in (1, 5):
        parts = [bench.guard.score(rows[start : start + size]) for start in range(0, count, size)]
        bench.same(torch.cat(parts), bench.scores, f"in batches of {size}")
    codec = bench.world.codec
    alone = [Rows.from_texts(codec, [row.prompt], [row.response], [row.owner]) for row in rows]  # less padding than above
    bench.same(torch.cat([bench.guard.score(one) for one in alone]), bench.scores, "each row padded by itself")


@_check("Keep no state between rows, and return the numbers in the order of the rows.")
def any_row_order(bench: Bench) -> None:
    """The rows in another order get the same numbers in that order."""
    order = shuffled(len(bench.rows))
    bench.same(bench.guard.score(take(bench.rows, order)), bench.scores[order], "rows in another order")


@_check("Look owners up by name, never by their place in a list, and keep nothing from the owner asked before.")
def any_owner_order(bench: Bench) -> None:
    """Owners asked in another order, or mixed within a batch, get the same numbers."""
    owners = bench.world.corpus.owners
    order = shuffled(len(owners))
    table = bench.guard.score_owners(bench.rows, [owners[i] for i in order])
    bench.same(table, bench.table[:, order], "owners in another order")
    turns = [i % len(owners) for i in range(len(bench.rows))]
    mixed = bench.guard.score(bench.rows.about([owners[i] for i in turns]))
    bench.same(mixed, bench.table[torch.arange(len(turns)), turns], "another owner for every row")


@_check("Draw everything random in fit() from `context.seed`, and nothing random in score().")
def one_seed_one_result(bench: Bench) -> None:
    """Two scorers fitted with one seed give the same numbers."""
    bench.same(bench.spare.guard.score(bench.rows), bench.scores, "fitted a second time with the same seed")


# -- the optional methods ----------------------------------------------------------------------------------------------
@_check("score_prefixes(rows, ends)[b, j] is the score of row b cut after ends[b, j] tokens.")
def prefixes_are_cut_responses(bench: Bench) -> None:
    """score_prefixes, where it is overridden, gives what score gives for responses that are really cut."""
    needs(bench, "score_prefixes")
    ends = ends_of(bench.stage.context, bench.rows)
    prefixes = bench.guard.score_prefixes(bench.rows, ends)
    bench.same(prefixes[:, -1], bench.scores, "whole responses as prefixes")
    bench.same(
        prefixes, cut_and_score(bench.guard.score, bench.rows, ends, bench.world.codec), "prefixes against cut responses"
    )


@_check("score_tokens gives shares: over a response they sum to its score, or their mean is the score, in all rows alike.")
def tokens_add_up(bench: Bench) -> None:
    """score_tokens, where it is overridden, adds up to the score (as sum or as mean over the response's tokens)."""
    needs(bench, "score_tokens")
    tokens = bench.guard.score_tokens(bench.rows)
    total, lengths = tokens.sum(1), bench.rows.batch.response_lengths
    as_mean = total / lengths
    nearer = min(total, as_mean, key=lambda sums: float((sums - bench.scores).abs().max()))
    bench.same(nearer, bench.scores, f"token scores, {'sum' if nearer is total else 'mean'} over the response")
    alone = [bench.guard.score_tokens(bench.rows[i : i + 1]).sum(1) for i in range(len(bench.rows))]
    bench.same(torch.cat(alone) / (1 if nearer is total else lengths), nearer, "token scores row by row")


@_check("score_owners(rows, owners)[b, j] is score() of row b asked about owners[j].")
def owners_at_once_as_one_by_one(bench: Bench) -> None:
    """score_owners, where it is overridden, gives what score gives for each owner by itself."""
    needs(bench, "score_owners")
    bench.same(bench.guard.score_owners(bench.rows, bench.world.corpus.owners), bench.table, "owners at once")


# -- what must be left alone -------------------------------------------------------------------------------------------
@_check("Work on `context.original.clone()`, use generators of your own, and put modes back as they were.")
def leaves_no_trace(bench: Bench) -> None:
    """Weights, gradients and modes of all models, the global random generators, grad mode and the rows stay untouched."""
    before = fingerprint(bench.world.original.model), fingerprint(bench.world.base.model)
    stage = bench.spare
    policy: Any = stage.policy
    weights = fingerprint(policy)
    for train in (False, True):
        policy.train(train)
        with torch.set_grad_enabled(train):
            ask_everything(bench, stage, bench.rows)
    if fingerprint(policy) != weights:
        raise ContractFailure("the policy's weights are not the same after scoring")
    plain = policy.original().clone()
    if (fingerprint(plain), fingerprint(stage.base.model)) != before:
        raise ContractFailure("the weights of the original or the base model are not the same after fit and score")
    if stage.base.model.training or any(weight.requires_grad for weight in stage.base.model.parameters()):
        raise ContractFailure("the base model is no longer frozen (train mode, or weights that require gradients)")


@_check("Ask `context.original` anew in every call and use its methods (or `with active()`), never a module kept from fit().")
def the_policy_may_move(bench: Bench) -> None:
    """Scores do not change while the policy learns, unless the scorer reads `context.policy` on purpose."""
    stage = bench.spare
    before = stage.guard.score(bench.rows)
    stage.nudge(17)
    after = stage.guard.score(bench.rows)
    if stage.asked_for_policy:
        raise ContractSkip("it reads the live policy")
    bench.same(after, before, "after the policy has moved")


# -- unusual input -----------------------------------------------------------------------------------------------------
@_check("Handle it, or raise ScorerError with what is missing; a crash in the middle of a run helps nobody.")
def one_owner(bench: Bench) -> None:
    """With a single owner it gives finite numbers or refuses with a ScorerError of its own."""
    (owner,) = bench.world.corpus.forget_owners
    works_or_refuses(bench, lambda context: replace(context, rows_by_owner={owner: context.rows_by_owner[owner]}), owner)


@_check("Handle it, or raise ScorerError with what is missing; a crash in the middle of a run helps nobody.")
def one_example(bench: Bench) -> None:
    """With a single row per owner it gives finite numbers or refuses with a ScorerError of its own."""

    def first_only(context: ScorerContext) -> ScorerContext:
        return replace(context, rows_by_owner={name: rows[:1] for name, rows in context.rows_by_owner.items()})

    works_or_refuses(bench, first_only, None)


@_check("Expect responses without words: guard divisions by their number, and never index their first or last token blindly.")
def empty_and_unicode_responses(bench: Bench) -> None:
    """Empty, blank, non-Latin and control characters get finite numbers and do not change their neighbours'."""
    odd = ["", " ", "\n\n", "🙂 naïve 日本語 ﷽", "e\u0301\u0301 \u202etfel", "\x00\x07", "?!…"]
    among_others(bench, odd)
    nothing = bench.rows.cut(bench.world.codec, torch.zeros(len(bench.rows), dtype=torch.int64))
    ask_everything(bench, bench.stage, nothing)  # not even an end-of-sequence token


@_check("Let cost and memory grow with the length alone, and nothing in the score with its square or exponential.")
def very_long_response(bench: Bench) -> None:
    """A response of several hundred tokens gets a finite number and does not change its neighbours'."""
    words = " ".join(row.response for row in bench.rows)
    ids = bench.world.codec.response(words + " " + words, end=False)[:600]
    among_others(bench, [bench.world.codec.decode(ids)], beside=3)


@_check("Let close() free what is there and do nothing the second time.")
def closes_twice(bench: Bench) -> None:
    """close() may be called twice, and on a scorer that was never fitted."""
    fitted, fresh = bench.spare.guard.scorer, bench.make()
    bench.drop_spare()
    for scorer, when in ((fitted, "after fit"), (fresh, "without fit")):
        for call in ("first", "second"):
            try:
                scorer.close()
            except Exception as error:
                raise ContractFailure(f"the {call} close() {when} raised {type(error).__name__}: {error}") from error


# -- what it is for ----------------------------------------------------------------------------------------------------
@_check(
    "Higher must mean more of the owner's data. Check the sign; check that owners are told apart. If the score does not "
    "depend on the owner by design, say `owner_free = True` in the class."
)
def planted_owner_first(bench: Bench) -> None:
    """A response that is a forgotten owner's own training text scores highest when asked about that owner."""
    if bench.cls.fidelity == "control":
        raise ContractSkip("a control tells nobody apart on purpose")
    owners = bench.world.corpus.owners
    (owner,) = bench.world.corpus.forget_owners
    planted = rows_of(bench.world.codec, list(bench.world.corpus.rows_of(owner)))
    means = bench.guard.score_owners(planted, owners).cpu().double().mean(0)
    if bench.guard.scorer.owner_free:
        spread = float(means.max() - means.min())
        if spread > bench.allowed:
            raise ContractFailure(f"owner_free = True, but its scores of one text differ between owners by {spread:.3g}")
        raise ContractSkip("owner_free: it asks nothing of the owner (checked: all owners get the same number)")
    own = owners.index(owner)
    others = [(float(means[i]), name) for i, name in enumerate(owners) if i != own]
    best, rival = max(others)
    if not float(means[own]) > best:
        raise ContractFailure(
            f"{len(planted)} training answers of {owner!r} score {float(means[own]):.6g} on average when asked about it, and "
            f"{best:.6g} when asked about {rival!r}"
        )
