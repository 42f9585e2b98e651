"""Gradients in the parameters of a LoRA adapter, seen from the weights below it.

At its start an adapter W + B A has B = 0, so only B has a gradient, G A^T with G the gradient of W. Inner products of such
gradients are <G_i A^T, G_j A^T> = <G_i A^T A, G_j>: a direction in B is the direction (.) A in W. So scores in the adapter's
parameters need no adapter; A is drawn as peft draws it. This is the gradient that LESS compares (Xia et al. 2024,
Selecting Influential Data for Targeted Instruction Tuning), without its warm-up.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deattrib import ScorerError
from deattrib_scorers._directions import Directions, Matrix
from deattrib_scorers._factors import Factors, Pair
from deattrib_scorers._sites import Site, weight_shape


class AdapterSpace:
    """The parameters B of a fresh LoRA of some rank on linear layers.

    Args:
        sites: linear layers only; see `AdapterSpace.sites`.
        seed: of the matrices A, drawn per layer from seed and name.
    """

    def __init__(self, sites: Sequence[Site], rank: int, seed: int) -> None:
        self.down: dict[str, Tensor] = {}
        for site in sites:
            assert site.weight is not None
            weight = next(site.module.parameters(recurse=False))
            self.down[site.weight] = _draw(f"{seed}/{site.weight}/adapter", rank, weight_shape(site)[1]).to(weight)

    @staticmethod
    def sites(module: nn.Module, sites: Sequence[Site]) -> tuple[Site, ...]:
        """The linear layers that get an adapter: all but the head.

        Raises:
            ScorerError: there is none.
        """
        find = getattr(module, "get_output_embeddings", None)
        head = find() if find is not None else None
        kept = [
            Site(site.module, site.kind, site.weight, None)
            for site in sites
            if site.kind in ("linear", "transposed") and site.weight is not None and site.module is not head
        ]
        if not kept:
            raise ScorerError("parameters: adapter finds no linear layer among `layers` besides the head.")
        return tuple(kept)

    def inside(self, factors: Factors) -> Factors:
        """Gradients of the weights -> gradients of B."""
        pairs = {name: [Pair(p.left, p.right @ self.down[name].T) for p in found] for name, found in factors.pairs.items()}
        return Factors(factors.rows, pairs)

    def outside(self, directions: Directions) -> Directions:
        """Directions of B [D, L, r] -> directions of the weights [D, L, R]."""
        matrices = {name: Matrix(matrix.core @ self.down[name]) for name, matrix in directions.matrices.items()}
        return Directions(directions.owners, matrices)


def _draw(key: str, rank: int, width: int) -> Tensor:
    """[rank, width] uniform in +-1/sqrt(width), as `nn.init.kaiming_uniform_(a=sqrt(5))` does."""
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big"))
    return (2 * torch.rand(rank, width, generator=generator) - 1) / math.sqrt(width)
