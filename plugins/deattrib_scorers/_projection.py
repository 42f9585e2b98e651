"""Factored random projections: P_l (x) P_r per matrix, so that a gradient is projected without being formed.

For the pair (G, x) of a linear layer P_l^T (sum_t G_t x_t^T) P_r = sum_t (P_l^T G_t)(P_r^T x_t)^T: two thin products per layer.
This is the layer-wise projection of LoGra (Choe et al. 2024, What is Your Data Worth to GPT?), drawn from the seed
instead of from principal components. Entries are N(0, 1/r), so E[P P^T] = 1 and inner products are kept on average. A side no
wider than r is left whole.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deattrib_scorers._directions import project
from deattrib_scorers._factors import Factors
from deattrib_scorers._sites import Site, weight_shape

Projection = Mapping[str, tuple[Tensor, Tensor]]


def make_projection(sites: Sequence[Site], rank: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """(P_l [L, l], P_r [R, r]) by matrix name, fixed by seed and name."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for site in sites:
        if site.weight is None or site.kind == "norm" or site.weight in found:
            continue
        weight = site.module.weight
        assert isinstance(weight, Tensor)
        left, right = (
            _side(f"{seed}/{site.weight}/{side}", width, rank).to(weight)
            for side, width in zip(("left", "right"), weight_shape(site), strict=True)
        )
        found[site.weight] = (left, right)
    return found


def _side(key: str, width: int, rank: int) -> Tensor:
    if width <= rank:
        return torch.eye(width)
    digest = hashlib.sha256(key.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randn(width, rank, generator=generator) / math.sqrt(rank)


def features(factors: Factors, projection: Projection) -> Tensor:
    """[B, k]: the projected gradients of all matrices side by side; k = sum of l r. Vectors are left out."""
    parts = [project(factors.pairs[name], left, right).flatten(1) for name, (left, right) in projection.items()]
    return torch.cat(parts, 1)


def split(values: Tensor, projection: Projection) -> dict[str, Tensor]:
    """[D, k] back to cores [D, l, r] by name."""
    sizes = [left.shape[1] * right.shape[1] for left, right in projection.values()]
    parts = values.split(sizes, 1)
    return {
        name: part.reshape(len(values), left.shape[1], right.shape[1])
        for (name, (left, right)), part in zip(projection.items(), parts, strict=True)
    }
