"""What a model thinks of given answers: probability, truth ratio, extraction strength, exact memorisation.

Sources: probability and truth ratio R from TOFU (Maini et al. 2024, section 2.2); the geometric form of R, extraction
strength and exact memorisation as in OpenUnlearning (Dorna et al. 2025) after Carlini et al. 2021 and Tirumala et
al. 2022. CE is the mean cross-entropy per token of the answer given the question, end-of-sequence token included, as
TOFU's labels have it. The two argmax measures leave the end of sequence out: predicting that an answer ends is not
remembering it.

Where we deviate: extraction strength is 0 when not even the last token is predicted; a public implementation
returns 1/T there. R is computed from log-probabilities and kept within exp(±80), so that a destroyed model gives a
large number and not infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deattrib.corpus.types import Example
from deattrib.evaluation.arrays import Array
from deattrib.models.batch import chunks
from deattrib.models.language_model import LanguageModel

Mean = Literal["arithmetic", "geometric"]
LOG_RATIO_BOUND = 80.0


@dataclass(frozen=True, slots=True, eq=False)
class AnswerLikelihoods:
    """Teacher-forced figures of N answers, arrays [N] in the order asked.

    Attributes:
        loss: mean cross-entropy per token in nats, end of sequence included, float32.
        tokens: how many tokens that is a mean of, at least 1, int64.
        exact_memorisation: share of answer tokens whose argmax is right, in [0, 1], float32.
        extraction_strength: 1 - k/T with k the shortest prefix after which every argmax is right, in [0, 1], float32.
    """

    loss: Array
    tokens: NDArray[np.int64]
    exact_memorisation: Array
    extraction_strength: Array

    @property
    def probability(self) -> Array:
        """exp(-loss), in (0, 1]."""
        return np.exp(-self.loss)


@dataclass(frozen=True, slots=True, eq=False)
class RowLikelihoods:
    """What a model thinks of the right, reworded and wrong answers of N rows.

    Attributes:
        answer: of the true answers.
        truth_ratio: R of each row [N] float32, NaN where the row has no wrong answers; of the mean that was asked for.
        normalised_probability: p(right) / sum of p over right and wrong answers [N] float32, NaN likewise.
        arithmetic, geometric: R by either mean, whichever was asked for; as `truth_ratio`.
    """

    answer: AnswerLikelihoods
    truth_ratio: Array
    normalised_probability: Array
    arithmetic: Array
    geometric: Array


def answer_likelihoods(
    model: LanguageModel, prompts: Sequence[str], answers: Sequence[str], *, batch_size: int = 64
) -> AnswerLikelihoods:
    """Score each answer under its prompt; one forward pass per distinct pair serves all figures."""
    pairs = list(dict.fromkeys(zip(prompts, answers, strict=True)))
    # Similar lengths share a batch, so that little is spent on padding; characters are a good enough guess of tokens.
    order = sorted(range(len(pairs)), key=lambda i: (len(pairs[i][1]) // 16, len(pairs[i][0])))
    scored = np.zeros((len(pairs), 4), dtype=np.float32)
    for part in chunks(order, batch_size):
        batch = model.encode([pairs[i][0] for i in part], [pairs[i][1] for i in part], end=True)
        figures = token_figures(model.logits(batch), batch.response_ids, batch.response_lengths)
        scored[list(part)] = figures.cpu().numpy()
    row = {pair: index for index, pair in enumerate(pairs)}
    table = scored[[row[pair] for pair in zip(prompts, answers, strict=True)]].reshape(-1, 4)
    return AnswerLikelihoods(table[:, 0], table[:, 1].astype(np.int64), table[:, 2], table[:, 3])


def token_figures(logits: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
    """Loss, tokens, exact memorisation and extraction strength from logits.

    Args:
        logits: [B, T, V], position t predicts response token t.
        ids: [B, T] int64, right padded, each row closed by an end-of-sequence token.
        lengths: [B] int64, the end of sequence counted.

    Returns:
        [B, 4] float32.
    """
    logits = logits.float()
    position = torch.arange(ids.shape[1], device=ids.device)
    log_probs = logits.gather(-1, ids[..., None]).squeeze(-1) - torch.logsumexp(logits, -1)
    real = position < lengths[:, None]
    loss = -torch.where(real, log_probs, torch.zeros_like(log_probs)).sum(1) / lengths
    content = (lengths - 1).clamp(min=0)
    counted = position < content[:, None]
    right = (logits.argmax(-1) == ids) & counted
    # k = 1 + the last position that is wrong; 0 when none is.
    last_wrong = torch.where(counted & ~right, position + 1, torch.zeros_like(ids)).amax(1)
    some = content > 0
    whole = content.clamp(min=1)
    exact = torch.where(some, right.sum(1) / whole, torch.zeros_like(loss))
    strength = torch.where(some, 1 - last_wrong / whole, torch.zeros_like(loss))
    return torch.stack([loss, lengths.float(), exact, strength], 1)


def row_likelihoods(
    model: LanguageModel, rows: Sequence[Example], *, mean: Mean = "arithmetic", batch_size: int = 64
) -> RowLikelihoods:
    """Score the answers, paraphrases and wrong answers of rows; a row without paraphrase uses the answer itself."""
    texts: list[tuple[str, str]] = []
    starts: list[int] = []
    for row in rows:
        starts.append(len(texts))
        reworded = row.response if row.paraphrase_response is None else row.paraphrase_response
        texts += [(row.prompt, text) for text in (row.response, reworded, *row.wrong_responses)]
    everything = answer_likelihoods(model, [text[0] for text in texts], [text[1] for text in texts], batch_size=batch_size)
    ends = [*starts[1:], len(texts)] if starts else []
    ratios: dict[Mean, list[float]] = {"arithmetic": [], "geometric": []}
    shares = []
    for start, end in zip(starts, ends, strict=True):
        right, reworded_loss, wrong = everything.loss[start], everything.loss[start + 1], everything.loss[start + 2 : end]
        for kind, values in ratios.items():
            values.append(truth_ratio_of_losses(float(reworded_loss), wrong, mean=kind))
        shares.append(normalised_probability(float(right), wrong))
    first = np.array(starts, dtype=np.int64)
    answer = AnswerLikelihoods(
        everything.loss[first],
        everything.tokens[first],
        everything.exact_memorisation[first],
        everything.extraction_strength[first],
    )
    both = {kind: np.array(values, dtype=np.float32) for kind, values in ratios.items()}
    return RowLikelihoods(answer, both[mean], np.array(shares, dtype=np.float32), both["arithmetic"], both["geometric"])


def truth_ratio_of_losses(paraphrase: float, wrong: Sequence[float] | Array, *, mean: Mean = "arithmetic") -> float:
    """R from mean token losses in nats; NaN where there are no wrong answers.

    arithmetic: mean of exp(-loss) over wrong answers, over exp(-paraphrase) (TOFU paper);
    geometric: exp(-mean loss of wrong answers) over the same (OpenUnlearning, and TOFU's code).
    """
    losses = np.asarray(wrong, dtype=np.float64)
    if not len(losses):
        return float("nan")
    top = np.logaddexp.reduce(-losses) - np.log(len(losses)) if mean == "arithmetic" else -losses.mean()
    return float(np.exp(np.clip(top + paraphrase, -LOG_RATIO_BOUND, LOG_RATIO_BOUND)))


def normalised_probability(right: float, wrong: Sequence[float] | Array) -> float:
    """exp(-right) / (exp(-right) + sum of exp(-wrong)) from mean token losses; NaN where there are no wrong answers."""
    losses = np.asarray(wrong, dtype=np.float64)
    if not len(losses):
        return float("nan")
    return float(np.exp(-right - np.logaddexp.reduce(np.append(-losses, -right))))


def forget_truth_ratio(ratios: Array) -> Array:
    """min(R, 1/R) per row, in [0, 1]: 1 where right and wrong answers are equally probable. NaN stays NaN."""
    return np.minimum(ratios, 1 / ratios)


def utility_truth_ratio(ratios: Array) -> Array:
    """max(0, 1 - R) per row, in [0, 1]: 1 where wrong answers are improbable. NaN stays NaN."""
    return np.maximum(0.0, 1 - ratios)


def perplexity(likelihoods: AnswerLikelihoods) -> float:
    """exp of the cross-entropy pooled over all tokens, end of sequence included; NaN without rows."""
    total = likelihoods.tokens.sum()
    return float(np.exp((likelihoods.loss.astype(np.float64) * likelihoods.tokens).sum() / total)) if total else float("nan")
