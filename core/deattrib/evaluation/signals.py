"""Membership inference on answers: signals of likelihood, and how well they tell members from others.

With l_t = log p(y_t | q, y_<t) over an answer and its end of sequence, higher always meaning "more like a member":

- loss: mean l_t (Yeom et al. 2018, section 3.1, sign turned round);
- zlib: mean l_t over the bytes of the answer compressed by zlib (Carlini et al. 2021, section 5.2);
- min-k: mean of the 20 % lowest l_t, one at least (Shi et al. 2024, equation 1);
- min-k++: the same of (l_t - mu_t) / sigma_t, mean and deviation of log p(v | q, y_<t) under p itself (Zhang et al. 2024,
  equations 3 and 4).

AUC is the chance that a member's signal is above another row's, ties counting half (Mann and Whitney 1947). Its interval
resamples facts on both sides.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from deattrib.corpus.types import Example
from deattrib.evaluation.arrays import Array
from deattrib.models.batch import TokenBatch
from deattrib.models.language_model import LanguageModel

SIGNALS = ("loss", "zlib", "min_k", "min_k_plus_plus")
SHARE = 0.2
SMALLEST_DEVIATION = 1e-6
LEAST = -1e4  # nats
MOST_LOGITS = 2**24  # of one forward pass whose whole distributions are needed: 64 MB in float32


def row_signals(model: LanguageModel, rows: Sequence[Example]) -> dict[str, Array]:
    """The four signals of each row's true answer under its prompt: name -> [N] float64."""
    found: dict[str, Array] = {name: np.zeros(len(rows)) for name in SIGNALS}
    for part, batch in small_batches(model, rows):
        values, scaled = _token_values(model.logits(batch), batch)
        lengths = batch.response_lengths.tolist()
        for place, index in enumerate(part):
            row, own, standard = rows[index], values[place, : lengths[place]], scaled[place, : lengths[place]]
            found["loss"][index] = own.mean()
            found["zlib"][index] = own.mean() / len(zlib.compress(row.response.encode()))
            found["min_k"][index] = lowest_mean(own)
            found["min_k_plus_plus"][index] = lowest_mean(standard)
    return found


def row_losses(model: LanguageModel, rows: Sequence[Example]) -> Array:
    """The first signal alone, [N]: no whole distributions are needed for it."""
    found = np.zeros(len(rows))
    for part, batch in small_batches(model, rows):
        found[part] = (model.token_log_probs(batch).cpu().double().sum(1) / batch.response_lengths.cpu()).numpy()
    return found


def small_batches(model: LanguageModel, rows: Sequence[Example]) -> list[tuple[list[int], TokenBatch]]:
    """(places in `rows`, their prompts and true answers with end of sequence), similar lengths together.

    As many rows at once as whole distributions over the vocabulary fit into `MOST_LOGITS`.
    """
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].response), rows[i].prompt))
    width = max(len(model.tokenizer), 1)
    batches: list[tuple[list[int], TokenBatch]] = []
    start = 0
    while start < len(order):
        longest = int(model.encode([rows[order[start]].prompt], [rows[order[start]].response]).response_lengths[0])
        # Sorted by characters: a batch's longest answer is about as long as its first one, hence the factor.
        size = min(max(MOST_LOGITS // (width * longest * 2), 1), 64)
        part = order[start : start + size]
        batches.append((part, model.encode([rows[i].prompt for i in part], [rows[i].response for i in part])))
        start += size
    return batches


def _token_values(logits: Tensor, batch: TokenBatch) -> tuple[Array, Array]:
    """l_t and its standardised form [B, T] float64, from logits [B, T, V]."""
    ids = batch.response_ids.to(logits.device)
    log_probs = logits.float().log_softmax(-1)
    own = log_probs.gather(-1, ids[..., None]).squeeze(-1)
    probs = log_probs.exp()
    mean = torch.einsum("btv,btv->bt", probs, log_probs)
    # In place: whole distributions are the largest tensors of an evaluation.
    deviation = torch.einsum("btv,btv->bt", probs, log_probs.sub_(mean[..., None]).square_()).sqrt()
    standard = (own - mean) / deviation.clamp(min=SMALLEST_DEVIATION)
    return tuple(values.cpu().double().numpy() for values in (own, standard))  # type: ignore[return-value]


def lowest_mean(values: Array) -> float:
    """Mean of the lowest `SHARE` of the values, one at least."""
    # A hair more than the share, so that 0.2 of 5 tokens is one token in floating point, too.
    count = max(int(len(values) * SHARE + 1e-6), 1)
    return float(np.partition(values, count - 1)[:count].mean())


def order_matrix(members: Array, others: Array) -> Array:
    """[M, N]: 1 where a member's signal is above the other row's, 1/2 where they are equal, else 0. Its mean is the AUC."""
    matrix: Array = (members[:, None] > others[None]) + 0.5 * (members[:, None] == others[None])
    return matrix


def auc_draws(matrix: Array, members: Sequence[Hashable], others: Sequence[Hashable], *, seed: int, samples: int) -> Array:
    """AUCs [samples] with whole clusters of either side drawn with replacement; equal seeds draw the same clusters."""
    left, right = _indicator(members), _indicator(others)
    rng = np.random.default_rng(seed)
    a, b = (rng.multinomial(side.shape[1], np.full(side.shape[1], 1 / side.shape[1]), size=samples) for side in (left, right))
    won = ((a @ (left.T @ matrix @ right)) * b).sum(1)
    draws: Array = won / ((a @ left.sum(0)) * (b @ right.sum(0)))
    return draws


def _indicator(clusters: Sequence[Hashable]) -> Array:
    """[rows, clusters]: 1 where a row belongs to a cluster."""
    names = {name: index for index, name in enumerate(dict.fromkeys(clusters))}
    indicator = np.zeros((len(clusters), len(names)))
    indicator[np.arange(len(clusters)), [names[name] for name in clusters]] = 1
    return indicator


def privleak(auc: float, oracle: float) -> float | None:
    """((1 - AUC) - (1 - AUC_oracle)) / (1 - AUC_oracle) in per cent (Shi et al. 2024, MUSE, with members as positives).

    None where the oracle's AUC is 1; explodes near there, so the plain difference belongs beside it.
    """
    return None if oracle >= 1 else 100 * ((1 - auc) - (1 - oracle)) / (1 - oracle)


@torch.no_grad()
def token_divergences(first: Tensor, second: Tensor, lengths: Tensor) -> tuple[Array, Array]:
    """KL(first || second) and KL(second || first), mean over each row's positions in nats: logits [B, T, V] -> [B], [B].

    A log-probability counts as `LEAST` at least: a token that both rule out adds nothing, one that the second alone rules out
    adds much and not infinity.
    """
    one, two = (logits.float().log_softmax(-1).clamp_(min=LEAST) for logits in (first, second))
    gap = one - two
    lengths = lengths.to(one.device)
    mask = torch.arange(one.shape[1], device=one.device) < lengths[:, None]
    means = []
    for logs, sign in ((one, 1), (two, -1)):
        positions = sign * torch.einsum("btv,btv->bt", logs.exp_(), gap)
        means.append(torch.where(mask, positions, 0.0).cpu().double().sum(1) / lengths.cpu())
    forward, backward = (mean.clamp(min=0).numpy() for mean in means)  # below 0 by rounding only
    return forward, backward
