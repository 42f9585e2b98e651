"""The scale of a scorer: where 0 and 1 are, which bins are pooled, and when a scorer is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from deattrib.attribution.calibration import MAD_TO_SIGMA, MEDIAN_ERROR, Calibration, area_under_roc, fit_calibration
from deattrib.errors import CalibrationError


def spread(center: float, count: int = 21, width: float = 0.1) -> Tensor:
    """An odd number of scores whose median is `center`."""
    return center + torch.linspace(-width, width, count)


def fit(own: Tensor, own_lengths: Tensor, other: Tensor, other_lengths: Tensor, floor: float = 3.0) -> Calibration:
    return fit_calibration(own, own_lengths, other, other_lengths, scorer="mine", source="somebody", noise_floor=floor)


def constant(values: Tensor, length: int) -> Tensor:
    return torch.full_like(values, length, dtype=torch.int64)


def bins(levels: dict[int, tuple[float, float]], width: float = 0.1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """length -> (m0, m1), one column per length."""
    own = torch.stack([spread(high, width=width) for _, high in levels.values()], 1)
    other = torch.stack([spread(low, width=width) for low, _ in levels.values()], 1)
    lengths = torch.tensor(list(levels)).expand(own.shape)
    return own, lengths, other, lengths


def test_the_medians_are_0_and_1_per_length() -> None:
    calibration = fit(*bins({4: (1.0, 2.0), 16: (3.0, 7.0)}))
    assert calibration.edges == (4, 16)
    assert calibration.low == pytest.approx((1.0, 3.0)) and calibration.high == pytest.approx((2.0, 7.0))
    raw = torch.tensor([1.0, 2.0, 1.5, 3.0, 7.0, 4.0, 9.0, 0.0])
    lengths = torch.tensor([4, 4, 1, 16, 16, 5, 99, 16])
    assert calibration.unclipped(raw, lengths).tolist() == pytest.approx([0, 1, 0.5, 0, 1, 0.25, 1.5, -0.75])
    assert calibration(raw, lengths).tolist() == pytest.approx([0, 1, 0.5, 0, 1, 0.25, 1, 0])


def test_scores_and_lengths_of_prefixes() -> None:
    calibration = fit(*bins({4: (1.0, 2.0), 16: (3.0, 7.0)}))
    result = calibration(torch.tensor([[1.5, 5.0]]), torch.tensor([[3, 12]]))
    assert result.tolist() == [pytest.approx([0.5, 0.5])]


def test_the_report_is_of_whole_answers() -> None:
    report = fit(*bins({4: (1.0, 2.0), 16: (3.0, 7.0)})).report
    assert (report["m0"], report["m1"], report["auroc"], report["rows"]) == (3.0, 7.0, 1.0, 21)
    assert (report["source"], report["bins"]) == ("somebody", 2)


def uneven(few: tuple[int, float], many: tuple[int, float]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """9 scores of one length and 41 of another, (length, m1) each; m0 is 0 everywhere."""
    own = torch.cat([spread(few[1], 9), spread(many[1], 41)])[:, None]
    other = torch.cat([spread(0.0, 9), spread(0.0, 41)])[:, None]
    lengths = torch.tensor([few[0]] * 9 + [many[0]] * 41)[:, None]
    return own, lengths, other, lengths


@pytest.mark.parametrize("copies", [1, 12])
def test_prefixes_of_one_answer_are_no_independent_scores(copies: int) -> None:
    """Twelve equal columns, as short answers give, are no better known than one."""
    one = MEDIAN_ERROR * MAD_TO_SIGMA * 0.05 / math.sqrt(41)  # of a uniform spread of 0.1 to either side
    difference = math.sqrt(2) * one

    def sides(gap: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        own, other = (spread(center, 41)[:, None].expand(-1, copies) for center in (gap, 0.0))
        return own, constant(own, 4), other, constant(other, 4)

    assert fit(*sides(3.1 * difference)).edges == (4,)
    with pytest.raises(CalibrationError, match="41 and 41 answers"):
        fit(*sides(2.9 * difference))


@pytest.mark.parametrize("few", [2, 40])
def test_a_bin_lost_in_noise_is_pooled_with_its_neighbour(few: int) -> None:
    own, lengths, other, _ = uneven((few, 0.001), (16, 1.0))
    calibration = fit(own, lengths, other, lengths)
    assert calibration.edges == (max(few, 16),)
    assert calibration.high[0] == pytest.approx(float(own.flatten().median())) and calibration.high[0] > 0.8
    assert calibration.low[0] == pytest.approx(float(other.flatten().median()))
    assert fit(own, lengths, other, lengths, floor=1e-9).edges == (min(few, 16), max(few, 16))  # the floor decides


@pytest.mark.parametrize("few", [1, 3, 7])
def test_a_last_bin_of_a_few_scores_does_not_stand_alone(few: int) -> None:
    """The deviation of one score is 0, so its noise would look like none."""
    own, other = spread(1.0), spread(0.0)
    own_lengths, other_lengths = constant(own, 4), constant(other, 4)
    own_lengths[:few] = 40
    other_lengths[:few] = 40
    calibration = fit(own[:, None], own_lengths[:, None], other[:, None], other_lengths[:, None])
    assert calibration.edges == (40,)


def test_bins_without_both_sides_are_joined() -> None:
    own, other = spread(1.0), spread(0.0)
    calibration = fit(own[:, None], constant(own, 3)[:, None], other[:, None], constant(other, 20)[:, None])
    assert calibration.edges == (20,) and calibration.high[0] == pytest.approx(1.0)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (1.0, 0.5), (1.0, 1.0001)])
def test_a_scorer_that_cannot_tell_is_refused_with_figures(low: float, high: float) -> None:
    with pytest.raises(CalibrationError, match=r"mine.*m1.*somebody.*m0") as caught:
        fit(*bins({8: (low, high)}))
    text = str(caught.value)
    assert "AUROC" in text and f"{low:.4g}" in text and "21 and 21" in text
    assert ("upside down" in text) is (high == 0.5)


def test_the_noise_is_the_standard_error_of_medians() -> None:
    """Sample medians of normal scores spread by 1.2533 sigma / sqrt(n); a gap of 3 such errors is the border."""
    generator = torch.Generator().manual_seed(0)
    own, other = (torch.randn(4001, 1, generator=generator) for _ in range(2))
    own, other = own - own.median(), other - other.median()
    lengths = torch.full((4001, 1), 8)
    border = 3 * math.sqrt(2) * 1.2533 / math.sqrt(4001)
    assert fit(own + 1.15 * border, lengths, other, lengths).report["m1"] > 0
    with pytest.raises(CalibrationError):
        fit(own + 0.85 * border, lengths, other, lengths)


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_is_sklearns(ties: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(40, generator=generator)
    values = values.round() if ties else values
    labels: Any = [1] * 15 + [0] * 25
    assert area_under_roc(values[:15], values[15:]) == pytest.approx(roc_auc_score(labels, values.numpy()))


def test_auroc_by_hand() -> None:
    assert area_under_roc(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 0.0])) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
