"""Membership signals of the original model's own likelihood: loss, zlib, min-k %, min-k %++.

With l_t = log pi_N(y_t | q, y_<t), higher always meaning "more like training data":

- `loss`: mean l_t (Yeom et al. 2018, Privacy Risk in Machine Learning, section 3.1, with the sign turned round);
- `zlib`: mean l_t over the bytes of the text compressed by zlib (Carlini et al. 2021, Extracting Training Data, section 5.2);
- `min-k`: mean of the k % lowest l_t (Shi et al. 2024, Detecting Pretraining Data, equation 1);
- `min-k-plus-plus`: the same of z_t = (l_t - mu_t) / sigma_t, mean and deviation of log pi_N(v | q, y_<t) over v drawn
  from the model itself (Zhang et al. 2024, Min-K%++, equations 3 and 4).

These are *owner-free*: they never look at `row.owner`, so they say "the model knows this answer to this prompt", not whose
data it knows it from. Asked about two owners they give one number, and no ranking of owners can come of them. What makes
them usable as a reward at all is that the prompt belongs to one owner. With a `reference` (our addition; none in the papers)
the same signal of a source without the owner is taken off, and what is left is the owner's share: for `loss` that is the
likelihood ratio of `membership` over the tokens that are no names.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from deattrib import LanguageModel, Rows, Scorer, ScorerContext, TokenBatch, hookimpl
from deattrib_scorers._reference import find_reference

ROWS_AT_ONCE = 8  # whole distributions are needed: rows x tokens x vocabulary
SMALLEST_DEVIATION = 1e-6


class Signal(Scorer):
    """A number per token, reduced over a prefix; a reference takes off what a source without the owner would get."""

    fidelity = "proxy"
    owner_free = True

    class Params(Scorer.Params):
        """Settings that all signals share."""

        reference: str = Field(
            "none", description="'none' (owner-free, as published), 'counterfactual', 'base', a model folder, or 'auto'."
        )
        swaps: int = Field(2, ge=1, le=32, description="counterfactual: retain owners to average over.")

    def fit(self, context: ScorerContext) -> None:
        self.context = context
        self.kind, self.other = "none", None
        if self.params.reference != "none":
            self.kind, self.other = find_reference(self.params.reference, context, scorer=self.name)
        self.owner_free = self.kind != "counterfactual"

    def score(self, rows: Rows) -> Tensor:
        return self.score_prefixes(rows, rows.batch.response_lengths.cpu()[:, None])[:, 0]

    def score_prefixes(self, rows: Rows, ends: Tensor) -> Tensor:
        original, ends = self.context.original, ends.cpu()
        own, mask = self.tokens(original, rows.batch), rows.batch.response_mask.cpu()
        if self.kind == "none":
            return self.reduce(own, mask, ends, rows)
        if self.other is not None:
            return self.reduce(own, mask, ends, rows) - self.reduce(self.tokens(self.other, rows.batch), mask, ends, rows)
        shares = []
        for draw in range(self.params.swaps):
            swapped = self.context.counterfactual_rows(rows, draw=draw)
            theirs, kept = swapped.align(self.tokens(original, swapped.batch)), swapped.kept.cpu()
            shares.append(self.reduce(own, kept, ends, rows) - self.reduce(theirs, kept, ends, rows))
        return torch.stack(shares).mean(0)

    def tokens(self, model: LanguageModel, batch: TokenBatch) -> Tensor:
        """[B, T] on the CPU: one number per response token."""
        return model.token_log_probs(batch).cpu()

    def reduce(self, values: Tensor, kept: Tensor, ends: Tensor, rows: Rows) -> Tensor:
        """values, kept [B, T], ends [B, k] -> [B, k]; the mean over a prefix's kept tokens, 0 where it has none."""
        return _running(values * kept, ends) / _running(kept.float(), ends).clamp(min=1)


class Loss(Signal):
    """Mean log-likelihood per token under the original model (owner-free)."""

    name = "loss"


class Zlib(Signal):
    """Mean log-likelihood per token over the compressed size of the text (owner-free)."""

    name = "zlib"

    def reduce(self, values: Tensor, kept: Tensor, ends: Tensor, rows: Rows) -> Tensor:
        decode, ids = self.context.codec.decode, rows.batch.response_lists()
        sizes = [
            [len(zlib.compress(decode(row[:end]).encode())) for end in cuts]
            for row, cuts in zip(ids, ends.tolist(), strict=True)
        ]
        return super().reduce(values, kept, ends, rows) / torch.tensor(sizes, dtype=torch.float32)


class MinK(Signal):
    """Mean log-likelihood of the least likely tokens (owner-free)."""

    name = "min-k"

    class Params(Signal.Params):
        """Settings of `min-k` and `min-k-plus-plus`."""

        share: float = Field(0.2, gt=0, le=1, description="Share of the tokens that counts, one token at least (paper: 0.2).")

    def reduce(self, values: Tensor, kept: Tensor, ends: Tensor, rows: Rows) -> Tensor:
        columns = []
        for end in ends.unbind(1):
            mask = kept & (torch.arange(values.shape[1]) < end[:, None])
            # A hair more than the share, so that 0.2 of 5 tokens is one token in floating point, too.
            count = (mask.sum(1) * self.params.share + 1e-6).long().clamp(min=1)
            lowest = values.masked_fill(~mask, float("inf")).sort(1).values
            chosen = (torch.arange(values.shape[1]) < count[:, None]) & lowest.isfinite()
            columns.append(lowest.masked_fill(~chosen, 0).sum(1) / count)
        return torch.stack(columns, 1)


class MinKPlusPlus(MinK):
    """Mean standardised log-likelihood of the least likely tokens (owner-free)."""

    name: ClassVar[str] = "min-k-plus-plus"

    def tokens(self, model: LanguageModel, batch: TokenBatch) -> Tensor:
        parts = [batch.rows(slice(start, start + ROWS_AT_ONCE)) for start in range(0, len(batch), ROWS_AT_ONCE)]
        return torch.cat([standardised(model.logits(part), part.response_ids.to(model.device)).cpu() for part in parts])


def standardised(logits: Tensor, ids: Tensor) -> Tensor:
    """(log p(id) - mean) / deviation of log p under p itself. logits [B, T, V], ids [B, T] -> [B, T]."""
    log_probs = logits.float().log_softmax(-1)
    probs = log_probs.exp()
    mean = (probs * log_probs).sum(-1)
    deviation = (probs * (log_probs - mean[..., None]) ** 2).sum(-1).sqrt()
    return (log_probs.gather(-1, ids[..., None]).squeeze(-1) - mean) / deviation.clamp(min=SMALLEST_DEVIATION)


def _running(values: Tensor, ends: Tensor) -> Tensor:
    """Sums of prefixes: values [B, T], ends [B, k] -> [B, k]."""
    return torch.nn.functional.pad(values.cumsum(1), (1, 0)).gather(1, ends)


@hookimpl
def scorers() -> Sequence[type[Scorer]]:
    return [Loss, Zlib, MinK, MinKPlusPlus]
