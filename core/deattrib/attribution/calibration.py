"""Raw score -> attribution in [0, 1]: what makes scorers interchangeable without retuning PPO.

The paper's target is a raw score of 0, yet in its own Table 1 gibberish scores .28, and what a model that never saw the
owner would score is not reported. Here attribution is linear between two measured points, per bin of length:

    a = clip((s - m0) / (m1 - m0), 0, 1)

m1: median raw score of the original model's sampled answers to the owner's prompts. m0: median over what a source
without the owner answers to the *same prompts*, scored against the original prompt and owner. Neither uses a
retrained model. Where m1 - m0 is lost in noise (short prefixes), bins are pooled; where all of it is, the scorer is
refused with the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deattrib.errors import CalibrationError

EDGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
SMALLEST_BIN = 8  # answers on each side; the deviation of fewer says nothing about their noise
MEDIAN_ERROR = 1.2533  # standard error of a median in units of sigma / sqrt(n), for normal data
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True)
class Calibration:
    """The scale of one scorer.

    Attributes:
        edges: upper ends of the length bins in tokens, ascending; longer responses use the last bin.
        low, high: m0 and m1 of each bin.
        report: figures for metrics.json: rows, source of the answers without the owner, AUROC, pooled bins.
    """

    edges: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    report: dict[str, Any]

    def unclipped(self, raw: Tensor, lengths: Tensor) -> Tensor:
        """(s - m0) / (m1 - m0), any real number. raw and lengths (tokens) of one shape."""
        index = torch.bucketize(lengths.clamp(max=self.edges[-1]), torch.tensor(self.edges))
        low, high = torch.tensor(self.low)[index], torch.tensor(self.high)[index]
        return (raw - low) / (high - low)

    def __call__(self, raw: Tensor, lengths: Tensor) -> Tensor:
        """Attribution in [0, 1]."""
        return self.unclipped(raw, lengths).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class Side:
    """Scores of one side in a bin of length.

    Attributes:
        values, answers: [s] scores, and which answer each is of: prefixes of one answer are no independent scores.
    """

    values: Tensor
    answers: Tensor

    def __add__(self, other: Side) -> Side:
        return Side(torch.cat([self.values, other.values]), torch.cat([self.answers, other.answers]))

    @property
    def count(self) -> int:
        """Different answers."""
        return len(self.answers.unique())

    @property
    def median(self) -> float:
        return float(self.values.median())

    @property
    def error(self) -> float:
        """Standard error of the median, spread measured by the median absolute deviation."""
        deviation = (self.values - self.values.median()).abs().median() * MAD_TO_SIGMA
        return MEDIAN_ERROR * float(deviation) / math.sqrt(max(self.count, 1))


def fit_calibration(
    own: Tensor,
    own_lengths: Tensor,
    other: Tensor,
    other_lengths: Tensor,
    *,
    scorer: str,
    source: str,
    noise_floor: float,
) -> Calibration:
    """Measure m0 and m1 per length bin.

    Args:
        own, own_lengths: [n, k] raw scores of prefixes of the original model's answers, and their lengths in tokens;
            the last column is the whole answer.
        other, other_lengths: [m, k] the same for answers of a source without the owner.
        scorer, source: names for messages and the report.

    Raises:
        CalibrationError: when the two sides cannot be told apart even with all bins pooled.
    """
    edges, groups = _bins(own, own_lengths, other, other_lengths)
    pooled: list[tuple[int, Side, Side]] = []
    for edge, mine, theirs in groups:
        if pooled and not _clear(*pooled[-1][1:], noise_floor):
            _, before, before_other = pooled.pop()
            mine, theirs = before + mine, before_other + theirs
        pooled.append((edge, mine, theirs))
    while len(pooled) > 1 and not _clear(*pooled[-1][1:], noise_floor):
        edge, mine, theirs = pooled.pop()
        _, before, before_other = pooled.pop()
        pooled.append((edge, before + mine, before_other + theirs))
    auroc = area_under_roc(own[:, -1], other[:, -1])
    report = {
        "source": source,
        "rows": int(own.shape[0]),
        "auroc": round(auroc, 4),
        "bins": len(pooled),
        "bins_before_pooling": len(edges),
        "m0": round(float(other[:, -1].median()), 6),
        "m1": round(float(own[:, -1].median()), 6),
    }
    if not _clear(*pooled[-1][1:], noise_floor):
        raise CalibrationError(_refusal(scorer, source, *pooled[-1][1:], noise_floor, auroc))
    return Calibration(
        tuple(edge for edge, _, _ in pooled),
        tuple(theirs.median for _, _, theirs in pooled),
        tuple(mine.median for _, mine, _ in pooled),
        report,
    )


def _bins(
    own: Tensor, own_lengths: Tensor, other: Tensor, other_lengths: Tensor
) -> tuple[list[int], list[tuple[int, Side, Side]]]:
    """Scores of both sides per length bin, where both have some; a bin without both is joined to the next."""

    def within(scores: Tensor, lengths: Tensor, start: int, end: int) -> Side:
        chosen = (lengths > start) & (lengths <= end)
        answers = torch.arange(len(scores))[:, None].expand_as(chosen)
        return Side(scores[chosen], answers[chosen])

    groups: list[tuple[int, Side, Side]] = []
    start = 0
    longest = int(max(own_lengths.max(), other_lengths.max()))
    edges = [edge for edge in EDGES if edge < longest] + [max(longest, 1)]
    for edge in edges:
        mine, theirs = within(own, own_lengths, start, edge), within(other, other_lengths, start, edge)
        few = min(mine.count, theirs.count) < SMALLEST_BIN
        if few and edge != edges[-1]:
            continue
        start = edge
        if few and groups:
            _, before, before_other = groups.pop()
            mine, theirs = before + mine, before_other + theirs
        groups.append((edge, mine, theirs))
    return edges, groups


def _error(mine: Side, theirs: Side) -> float:
    """Standard error of the difference of two medians."""
    return float((mine.error**2 + theirs.error**2) ** 0.5)


def _refusal(scorer: str, source: str, mine: Side, theirs: Side, noise_floor: float, auroc: float) -> str:
    needed = noise_floor * _error(mine, theirs)
    flipped = _clear(theirs, mine, noise_floor)
    upside = "It looks upside down: a higher score must mean more of the owner's data. " if flipped else ""
    return (
        f"Scorer {scorer!r} cannot tell the owner's answers from others': median {mine.median:.4g} on the original model's "
        f"own answers (m1), {theirs.median:.4g} on answers from {source} (m0), {mine.count} and {theirs.count} answers, "
        f"AUROC {auroc:.2f}; m1 - m0 must exceed {noise_floor:g} standard errors ({needed:.3g}). {upside}Fit it on more "
        "rows, sample more answers (calibration.rows), choose another scorer, or switch calibration off if its raw scores "
        "lie in [0, 1]."
    )


def _clear(mine: Side, theirs: Side, noise_floor: float) -> bool:
    """Whether m1 - m0 stands out of the noise."""
    if min(mine.count, theirs.count) == 0:
        return False
    scale = float(torch.cat([mine.values, theirs.values]).abs().max())
    return mine.median - theirs.median > max(noise_floor * _error(mine, theirs), 1e-6 * scale)


def area_under_roc(positives: Tensor, negatives: Tensor) -> float:
    """Probability that a positive scores above a negative, ties counting half (Mann-Whitney)."""
    order: Sequence[float] = torch.sign(positives[:, None] - negatives[None, :]).flatten().tolist()
    return 0.5 + 0.5 * sum(order) / max(len(order), 1)
