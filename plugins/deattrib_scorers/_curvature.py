"""Approximations of the Fisher matrix that can be measured from per-row gradients and inverted parameter by parameter.

With the row's mean loss per token as the training objective, as everywhere here, the Fisher matrix is

    F = mean over rows of  1/T sum_t E_{y ~ p_t}[ g_t(y) g_t(y)^T ],   g_t(y) = grad log p(y | q, y_<t).

Labels drawn independently make the cross terms of sum_t g_t vanish on average, so F is the mean square of T^-1/2 sum_t g_t: a
token's gradient counts T^-1/2, not the 1/T of the row's own gradient, whose square would give long rows 1/T too little.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from deattrib_scorers._factors import Factors, Pair


class Curvature:
    """Sees batches of per-row gradients, then divides by itself.

    Class attributes:
        passes: how often it needs to see the corpus.
        at_data: it is made of the training gradients themselves, never of drawn labels.
        exponent: a token's gradient counts T^-exponent in what it is to see, T being the row's response tokens.

    Args:
        outs: number of outputs by matrix name.
    """

    passes: ClassVar[int] = 1
    at_data: ClassVar[bool] = False
    exponent: ClassVar[float] = 0.5

    def __init__(self, outs: Mapping[str, int]) -> None:
        self.outs = outs
        self.moments: dict[str, Tensor] = {}
        self.count = 0

    def see(self, factors: Factors, turn: int) -> None:
        """One batch; `turn` counts the passes from 0."""
        raise NotImplementedError

    def solve(self, name: str, value: Tensor, damping: float) -> Tensor:
        """(H + damping * mean eigenvalue)^-1 value, for one parameter: [L, R] or [L]."""
        return value / self._damped(self.moments[name] / self.count, damping)

    def _add(self, name: str, value: Tensor) -> None:
        self.moments[name] = self.moments[name] + value if name in self.moments else value

    @staticmethod
    def _damped(values: Tensor, damping: float) -> Tensor:
        # The second term only matters for parameters without any gradient.
        return values + damping * values.mean() + torch.finfo(values.dtype).tiny


class DiagonalFisher(Curvature):
    """The diagonal of the Fisher matrix, or of the empirical one: mean squares of T^-1/2 sum_t g_t."""

    def see(self, factors: Factors, turn: int) -> None:
        self.count += factors.rows
        for name in factors.pairs:
            self._add(name, factors.dense(name, self.outs[name]).square_().sum(0))
        for name, vector in factors.vectors.items():
            self._add(name, vector.square().sum(0))


class AdamMoments(Curvature):
    """Root of the mean squared gradient of a batch: what Adam would divide by after many steps at these weights.

    A batch is what is seen at once, up to `batch_size` rows of one owner; so here its size is part of the definition.
    """

    at_data = True
    exponent = 1.0

    def see(self, factors: Factors, turn: int) -> None:
        self.count += 1
        share = torch.full((factors.rows,), 1.0 / factors.rows)
        for name in factors.pairs:
            pair = factors.pairs[name][0].right
            self._add(name, factors.summed(name, self.outs[name], share.to(pair)).square_())
        for name, vector in factors.vectors.items():
            self._add(name, vector.mean(0).square())

    def solve(self, name: str, value: Tensor, damping: float) -> Tensor:
        return value / self._damped((self.moments[name] / self.count).sqrt(), damping)


class Ekfac(Curvature):
    """Eigenvalue-corrected Kronecker factors: bases in the first pass, eigenvalues in the second."""

    passes = 2

    def __init__(self, outs: Mapping[str, int], widest: int) -> None:
        super().__init__(outs)
        self.widest = widest
        self.sides: dict[tuple[str, str], Tensor] = {}
        self.bases: dict[tuple[str, str], Tensor | None] = {}

    def see(self, factors: Factors, turn: int) -> None:
        if turn == 0:
            for name, pairs in factors.pairs.items():
                for pair in pairs:
                    self._see_sides(name, pair, factors.positions)
            return
        self.count += factors.rows
        for name, pairs in factors.pairs.items():
            rotated = Factors(factors.rows, {name: [self._rotated(name, pair) for pair in pairs]})
            self._add(name, rotated.dense(name, self.outs[name]).square_().sum(0))
        for name, vector in factors.vectors.items():
            self._add(name, vector.square().sum(0))

    def _see_sides(self, name: str, pair: Pair, positions: Tensor | None) -> None:
        for side, values in (("left", pair.left), ("right", pair.right)):
            if values.dim() == 3 and values.shape[2] <= self.widest:  # one-hot vectors are diagonal as they are
                flat = values.flatten(0, 1) if positions is None else values[positions[:, -values.shape[1] :]]
                gram = flat.T @ flat
                self.sides[name, side] = self.sides[name, side] + gram if (name, side) in self.sides else gram

    def _basis(self, name: str, side: str) -> Tensor | None:
        """[width, width], eigenvectors in columns; None: the parameters' own basis."""
        if (name, side) not in self.bases:
            gram = self.sides.get((name, side))
            self.bases[name, side] = None if gram is None else torch.linalg.eigh(gram.cpu().double())[1].to(gram)
        return self.bases[name, side]

    def _rotated(self, name: str, pair: Pair) -> Pair:
        left, right = self._basis(name, "left"), self._basis(name, "right")
        turned = pair.left if left is None else left[pair.left] if pair.one_hot else pair.left @ left
        return Pair(turned, pair.right if right is None else pair.right @ right)

    def solve(self, name: str, value: Tensor, damping: float) -> Tensor:
        if value.dim() == 1:
            return super().solve(name, value, damping)
        left, right = self._basis(name, "left"), self._basis(name, "right")
        turned = value if left is None else left.T @ value
        turned = turned if right is None else turned @ right
        turned = super().solve(name, turned, damping)
        turned = turned if left is None else left @ turned
        return turned if right is None else turned @ right.T
