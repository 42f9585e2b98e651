"""Hashed token n-grams with a linear softmax: the classifier's cheapest backbone.

logits(y[:t]) = sum over n-grams that end by t of W[hash(n-gram)] / sqrt(number of n-grams) + b, so every prefix comes
out of one running sum. Tokens that are not kept (names) are closed over: n-grams run across the gap.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from deattrib import Rows

BUCKETS = 1 << 16
ORDERS = 3
PRIMES = (1_000_003, 998_244_353, 754_974_721)


class NgramBackend:
    def __init__(self, params: Any, *, seed: int) -> None:
        self.params = params
        self.seed = seed

    def fit(self, rows: Rows, keep: Tensor, labels: Tensor, classes: int) -> None:
        # Only buckets that occur are trained: Adam leaves a row without a gradient at 0.
        used, features = torch.cat([_features(rows, keep).flatten(), torch.tensor([BUCKETS])]).unique(return_inverse=True)
        features = features[:-1].view(*keep.shape, ORDERS)
        generator = torch.Generator().manual_seed(self.seed)
        table = torch.zeros(len(used), classes, requires_grad=True)  # the last row is padding and stays 0
        bias = torch.zeros(classes, requires_grad=True)
        optimiser = torch.optim.Adam([table, bias], lr=self.params.learning_rate or 0.05)
        lengths = keep.sum(1)
        criterion = nn.CrossEntropyLoss(label_smoothing=self.params.label_smoothing)
        for _ in range(self.params.epochs):
            for index in torch.randperm(len(labels), generator=generator).split(self.params.batch_size * 8):
                logits = _running(table, bias, features[index])
                last = lengths[index].clamp(min=1) - 1
                loss = criterion(logits[torch.arange(len(index)), last], labels[index])
                if self.params.prefixes:
                    cut = (torch.rand(len(index), generator=generator) * (last + 1)).long()
                    loss = 0.5 * loss + 0.5 * criterion(logits[torch.arange(len(index)), cut], labels[index])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        self.table, self.bias = torch.zeros(BUCKETS + 1, classes), bias.detach()
        self.table[used] = table.detach()

    def log_probs(self, rows: Rows, keep: Tensor, ends: Tensor) -> Tensor:
        features = _features(rows, keep)
        logits = _running(self.table, self.bias, features)
        kept = torch.cat([torch.zeros(len(keep), 1, dtype=torch.int64), keep.long().cumsum(1)], 1)
        count = kept.gather(1, ends)  # kept tokens in each prefix
        chosen = torch.log_softmax(logits.gather(1, (count - 1).clamp(min=0)[..., None].expand(-1, -1, logits.shape[-1])), -1)
        nothing = torch.log_softmax(self.bias, -1).expand_as(chosen)
        return torch.where((count == 0)[..., None], nothing, chosen)


def _features(rows: Rows, keep: Tensor) -> Tensor:
    """Hashed n-grams per kept token, kept tokens moved to the front: [B, T, orders]."""
    ids = rows.batch.response_ids.cpu()
    order = torch.argsort((~keep).long(), dim=1, stable=True)
    ids, valid = ids.gather(1, order), keep.gather(1, order)
    columns = []
    total = torch.zeros_like(ids)
    for n in range(ORDERS):
        shifted = torch.roll(ids, n, 1)
        total = total + (shifted + 1) * PRIMES[n]
        present = valid.clone()
        present[:, :n] = False
        # Multiply-shift: the low bits of a plain sum of products would collide for neighbouring ids.
        hashed = ((total * (n + 1) * 0x9E3779B1) >> 16) % BUCKETS
        columns.append(torch.where(present, hashed, BUCKETS))
    return torch.stack(columns, -1)


def _running(table: Tensor, bias: Tensor, features: Tensor) -> Tensor:
    """[B, T, classes]: logits after each kept token; the table's last row is no n-gram."""
    nothing = len(table) - 1
    present = (features != nothing).sum(-1).cumsum(1).clamp(min=1)
    summed = nn.functional.embedding(features, table, padding_idx=nothing).sum(2).cumsum(1)
    return summed / present[..., None].sqrt() + bias
