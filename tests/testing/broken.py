"""A sound scorer, and one for every clause of the contract that breaks it."""

from __future__ import annotations

import gc
import random
from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from deattrib import Policy, Rows, Scorer, ScorerContext


class Overlap(Scorer):
    """Share of a response's words that are in the owner's own answers: keeps the contract."""

    name = "overlap"

    def fit(self, context: ScorerContext) -> None:
        self.words = {owner: set(" ".join(texts).split()) for owner, texts in context.texts_by_owner.items()}

    def score(self, rows: Rows) -> Any:
        return [self.share(row.response.split(), self.words[row.owner]) for row in rows]

    def share(self, words: list[str], known: set[str]) -> float:
        return sum(word in known for word in words) / max(len(words), 1)


class Nameless(Overlap):
    name = "Not A Word"


class NotANumber(Overlap):
    def share(self, words: list[str], known: set[str]) -> float:
        return float("nan")


class Counting(Overlap):
    """Another number each time."""

    calls: ClassVar[int] = 0

    def score(self, rows: Rows) -> Any:
        Counting.calls += 1
        return [value + Counting.calls for value in super().score(rows)]


class Ranking(Overlap):
    """Centred within the batch."""

    def score(self, rows: Rows) -> Any:
        values = torch.tensor(super().score(rows))
        return values - values.mean()


class Padded(Overlap):
    """Counts the padding."""

    def score(self, rows: Rows) -> Any:
        return [value / rows.batch.response_ids.shape[1] for value in super().score(rows)]


class Running(Overlap):
    """Adds up from row to row."""

    def score(self, rows: Rows) -> Any:
        return torch.tensor(super().score(rows)).cumsum(0)


class FirstOwner(Overlap):
    """Asks about the first row's owner for all rows."""

    def score(self, rows: Rows) -> Any:
        return super().score(rows.about([rows.owners[0]] * len(rows)))


class Lucky(Overlap):
    """Random in a way that no seed reaches."""

    def fit(self, context: ScorerContext) -> None:
        super().fit(context)
        self.luck = random.SystemRandom().random()

    def score(self, rows: Rows) -> Any:
        return [value + self.luck for value in super().score(rows)]


class WholeForAll(Overlap):
    """Gives every prefix the score of the whole."""

    def score_prefixes(self, rows: Rows, ends: Any) -> Any:
        return torch.tensor(self.score(rows))[:, None].expand(-1, ends.shape[1])


class UnrelatedTokens(Overlap):
    def score_tokens(self, rows: Rows) -> Any:
        return torch.ones(rows.batch.response_ids.shape)


class OwnersReversed(Overlap):
    def score_owners(self, rows: Rows, owners: Sequence[str]) -> Any:
        return torch.stack([torch.tensor(self.score(rows.about([owner] * len(rows)))) for owner in reversed(owners)], 1)


class Noisy(Overlap):
    """Draws from the global generator while it scores."""

    def score(self, rows: Rows) -> Any:
        torch.rand(1)
        return super().score(rows)


class Vandal(Overlap):
    """Writes into the base model."""

    def fit(self, context: ScorerContext) -> None:
        super().fit(context)
        assert context.base is not None
        with torch.no_grad():
            next(context.base.model.parameters()).add_(1.0)


class Trainer(Overlap):
    """Leaves the models in training mode."""

    def fit(self, context: ScorerContext) -> None:
        super().fit(context)
        context.original.model.train()


class Thawer(Overlap):
    """Leaves the base model ready for training."""

    def fit(self, context: ScorerContext) -> None:
        super().fit(context)
        assert context.base is not None
        context.base.model.requires_grad_(True)


class FindsThePolicy(Scorer):
    """Looks for the policy behind the context's back and takes its backbone for the original."""

    name = "finds-the-policy"

    def fit(self, context: ScorerContext) -> None:
        self.context = context

    def score(self, rows: Rows) -> Any:
        model: Any = self.context.original.model
        policies = (item for item in gc.get_objects() if type(item) is Policy)
        model = next((policy.backbone for policy in policies if policy.original().model is model), model)
        logits = model(input_ids=rows.batch.input_ids, attention_mask=rows.batch.attention_mask).logits
        return logits[:, rows.batch.prompt_ids.shape[1] - 1].logsumexp(-1)


class NeedsTwoOwners(Overlap):
    def fit(self, context: ScorerContext) -> None:
        super().fit(context)
        self.other = context.owners[1]


class NeedsTwoRows(Overlap):
    def fit(self, context: ScorerContext) -> None:
        super().fit(context)
        self.second = [rows[1] for rows in context.rows_by_owner.values()]


class NeedsWords(Overlap):
    def share(self, words: list[str], known: set[str]) -> float:
        return sum(word in known for word in words) / len(words)


class Exploding(Overlap):
    def share(self, words: list[str], known: set[str]) -> float:
        return float(10.0 ** len(words)) * super().share(words, known)


class ClosesOnce(Overlap):
    def close(self) -> None:
        del self.words


class Backwards(Overlap):
    def share(self, words: list[str], known: set[str]) -> float:
        return -super().share(words, known)


BROKEN: list[tuple[type[Scorer], str, str]] = [
    (NotANumber, "one_finite_number_per_row", "nan"),
    (Counting, "one_finite_number_per_row", "asked a second time"),
    (Ranking, "any_batch_split", "in batches of 1"),
    (Padded, "any_batch_split", "padded by itself"),
    (Running, "any_row_order", "another order"),
    (FirstOwner, "any_owner_order", "another owner for every row"),
    (Lucky, "one_seed_one_result", "same seed"),
    (WholeForAll, "prefixes_are_cut_responses", "cut responses"),
    (UnrelatedTokens, "tokens_add_up", "token scores"),
    (OwnersReversed, "owners_at_once_as_one_by_one", "owners at once"),
    (Noisy, "leaves_no_trace", "random state"),
    (Vandal, "leaves_no_trace", "touched the base model: .*written to"),
    (Trainer, "leaves_no_trace", "train/eval mode"),
    (Thawer, "leaves_no_trace", "touched the base model: requires_grad"),
    (FindsThePolicy, "the_policy_may_move", "policy has moved"),
    (NeedsTwoOwners, "one_owner", "IndexError"),
    (NeedsTwoRows, "one_example", "IndexError"),
    (NeedsWords, "empty_and_unicode_responses", "ZeroDivisionError"),
    (Exploding, "very_long_response", "not finite|OverflowError"),
    (ClosesOnce, "closes_twice", "second close.. after fit raised AttributeError"),
    (Backwards, "planted_owner_first", "asked about"),
]
