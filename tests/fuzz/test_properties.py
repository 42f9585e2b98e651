"""What must hold for any numbers: calibration, losses, anchored term and whitening against loops over single tokens."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deattrib.attribution.calibration import Calibration, fit_calibration
from deattrib.errors import CalibrationError
from deattrib.ppo.advantages import whiten
from deattrib.ppo.losses import anchored_hinge, distillation_loss, masked_mean, policy_loss, token_kl, value_loss

LENGTHS = st.lists(st.integers(0, 6), min_size=1, max_size=4).filter(lambda lengths: max(lengths) > 0)
SEEDS = st.integers(0, 10_000)


def batch(lengths: list[int], seed: int, count: int, *, vocabulary: int = 0) -> tuple[Tensor, list[Tensor]]:
    """A mask [B, T] and random tensors of its shape (or [B, T, vocabulary])."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    shape = (*mask.shape, vocabulary) if vocabulary else tuple(mask.shape)
    return mask, [torch.randn(shape, generator=generator) for _ in range(count)]


def tokens(mask: Tensor) -> list[tuple[int, int]]:
    return [(row, column) for row, column in mask.nonzero().tolist()]


def near(value: Tensor | float, expected: float) -> bool:
    return float(value) == pytest.approx(expected, rel=1e-4, abs=1e-5)


# -- losses ------------------------------------------------------------------------------------------------------------
@settings(deadline=None)
@given(LENGTHS, SEEDS, st.floats(0.05, 0.5))
def test_policy_and_value_loss_are_their_formulas_token_by_token(lengths: list[int], seed: int, clip: float) -> None:
    mask, (new, old, advantages, values, before, returns) = batch(lengths, seed, 6)
    surrogate, squared = 0.0, 0.0
    for at in tokens(mask):
        ratio = math.exp(float(new[at] - old[at]))
        gain = float(advantages[at])
        surrogate -= min(ratio * gain, min(max(ratio, 1 - clip), 1 + clip) * gain)
        value, start, wanted = float(values[at]), float(before[at]), float(returns[at])
        close = start + min(max(value - start, -clip), clip)
        squared += 0.5 * max((value - wanted) ** 2, (close - wanted) ** 2)
    count = len(tokens(mask))
    assert near(policy_loss(new, old, advantages, mask, clip=clip), surrogate / count)
    assert near(value_loss(values, before, returns, mask, clip=clip), squared / count)


@settings(deadline=None)
@given(LENGTHS, SEEDS)
def test_kl_is_its_sum_over_words_never_below_zero_and_zero_with_itself(lengths: list[int], seed: int) -> None:
    mask, (p, q) = batch(lengths, seed, 2, vocabulary=5)
    kl = token_kl(p, q)
    for row, column in tokens(mask):
        one, other = (torch.softmax(logits[row, column].double(), -1).tolist() for logits in (p, q))
        assert near(kl[row, column], sum(a * math.log(a / b) for a, b in zip(one, other, strict=True)))
    assert float(kl.min()) > -1e-6 and float(token_kl(p, p).abs().max()) < 1e-6
    assert near(distillation_loss(q, p, mask), float(masked_mean(kl, mask)))


@settings(deadline=None)
@given(LENGTHS, SEEDS, st.booleans())
def test_the_hinge_is_its_formula_and_stops_at_its_level(lengths: list[int], seed: int, weighted: bool) -> None:
    mask, (log_probs, level, raw) = batch(lengths, seed, 3)
    weights = raw.abs() if weighted else None
    expected = sum(
        max(float(log_probs[at] - level[at]), 0.0) * (float(weights[at]) if weights is not None else 1.0) for at in tokens(mask)
    )
    loss = anchored_hinge(log_probs, level, mask, weights)
    assert near(loss, expected / len(tokens(mask))) and float(loss) >= 0
    assert float(anchored_hinge(torch.minimum(log_probs, level), level, mask, weights)) == 0
    assert float(anchored_hinge(log_probs + 0.1, level, mask, weights)) >= float(loss)  # monotone in the likelihood


@settings(deadline=None)
@given(LENGTHS, SEEDS)
def test_no_loss_depends_on_padding_or_on_the_order_of_rows(lengths: list[int], seed: int) -> None:
    mask, (one, two, three) = batch(lengths, seed, 3)
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))
    for loss in (
        lambda a, b, c, m: policy_loss(a, b, c, m, clip=0.2),
        lambda a, b, c, m: value_loss(a, b, c, m, clip=0.2),
        lambda a, b, c, m: anchored_hinge(a, b, m, c.abs()),
        lambda a, b, c, m: masked_mean(a, m),
    ):
        value = float(loss(one, two, three, mask))
        rubbish = [torch.where(mask, tensor, 1e4) for tensor in (one, two, three)]
        assert near(loss(*rubbish, mask), value)
        assert near(loss(one[order], two[order], three[order], mask[order]), value)


@settings(deadline=None)
@given(LENGTHS, SEEDS, st.floats(0.01, 2.0))
def test_whitened_advantages_keep_their_order_and_their_floor(lengths: list[int], seed: int, floor: float) -> None:
    mask, (advantages,) = batch(lengths, seed, 1)
    result = whiten(advantages * mask, mask, floor=floor)
    assert not result[~mask].any()
    inside, given_ = result[mask], advantages[mask]
    assert torch.equal(inside.argsort(stable=True), given_.argsort(stable=True)) or len(set(given_.tolist())) < len(given_)
    assert abs(float(inside.mean())) < 1e-4 * max(1.0, 1 / floor)
    deviation = float(given_.std(unbiased=False))
    expected = deviation / max(deviation, floor)
    assert float(inside.std(unbiased=False)) == pytest.approx(expected, rel=1e-3, abs=1e-4)


# -- calibration -------------------------------------------------------------------------------------------------------
def scores(seed: int, gap: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Raw scores of prefixes at four lengths, own side above the other by a gap that grows with length."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([2, 5, 11, 40]).expand(24, 4)
    own, other = (torch.randn(24, 4, generator=generator) * 0.05 for _ in range(2))
    return own + gap * lengths / 40, lengths, other, lengths


def fitted(own: Tensor, lengths: Tensor, other: Tensor, other_lengths: Tensor) -> Calibration:
    return fit_calibration(own, lengths, other, other_lengths, scorer="s", source="t", noise_floor=3.0)


@settings(deadline=None)
@given(SEEDS, st.floats(1.0, 5.0), st.floats(0.01, 100.0), st.floats(-50.0, 50.0))
def test_attribution_is_bounded_monotone_and_blind_to_the_scale_of_a_scorer(
    seed: int, gap: float, scale: float, shift: float
) -> None:
    parts = scores(seed, gap)
    calibration = fitted(*parts)
    assert list(calibration.edges) == sorted(set(calibration.edges))
    assert all(low < high for low, high in zip(calibration.low, calibration.high, strict=True))
    raw = torch.randn(30, generator=torch.Generator().manual_seed(seed)) * 3
    lengths = torch.randint(1, 90, (30,), generator=torch.Generator().manual_seed(seed))
    value = calibration(raw, lengths)
    assert float(value.min()) >= 0 and float(value.max()) <= 1
    assert bool((calibration(raw + 0.1, lengths) >= value).all())
    moved = fitted(parts[0] * scale + shift, parts[1], parts[2] * scale + shift, parts[3])
    if moved.edges == calibration.edges:  # a gap at the very floor may fall on its other side by rounding
        assert torch.allclose(moved(raw * scale + shift, lengths), value, atol=1e-2)


@settings(deadline=None)
@given(SEEDS, st.floats(1.0, 5.0))
def test_neither_the_order_of_answers_nor_swapped_sides_go_unnoticed(seed: int, gap: float) -> None:
    own, lengths, other, other_lengths = scores(seed, gap)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(seed))
    first, again = fitted(own, lengths, other, other_lengths), fitted(own[order], lengths, other[order], other_lengths)
    assert (first.edges, first.low, first.high) == (again.edges, again.low, again.high)
    with pytest.raises(CalibrationError):
        fitted(other, lengths, own, other_lengths)
