"""One direction in parameter space per owner: what every gradient-linear attributor comes down to.

Summed over an owner's rows, the scores of TracIn, GradDot, TRAK at a checkpoint, and influence functions with a fixed
preconditioner are <grad log p(y), v_owner>. v is made once from the corpus; a score never touches the corpus again.

A direction is kept exactly (one matrix per parameter) or within a factored projection P_l (x) P_r, where the matrix is
P_l C P_r^T with a small core C: r^2 numbers per owner instead of L R.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from deattrib_scorers._factors import Factors, Pair

OUTPUTS_AT_A_TIME = 384


@dataclass(frozen=True, eq=False)
class Matrix:
    """Directions of one parameter in the orientation [out, in], D of them.

    Attributes:
        core: [D, L, R], or [D, l, r] within a projection.
        left, right: [L, l] and [R, r] of the projection; None on both sides: `core` is the direction itself.
    """

    core: Tensor
    left: Tensor | None = None
    right: Tensor | None = None

    def outputs(self, inputs: Tensor, index: Tensor) -> Tensor:
        """V_index x for every position: inputs [B, T, R], index [B] ascending -> [B, T, L]."""
        if self.left is not None and self.right is not None:
            return ((inputs @ self.right) @ self.core[index].mT) @ self.left.T
        parts = [inputs[rows] @ self.core[which].T for which, rows in runs(index)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def rows(self, ids: Tensor, index: Tensor) -> Tensor:
        """The rows of V_index that an embedding looks up: ids [B, T] -> [B, T, R]."""
        if self.left is not None and self.right is not None:
            return (self.left[ids] @ self.core[index]) @ self.right.T
        return self.core[index[:, None], ids]

    def contract(self, factors: Factors, name: str) -> Tensor:
        """<gradient of row b, direction d> for all pairs: [B, D]."""
        if self.left is not None and self.right is not None:
            return project(factors.pairs[name], self.left, self.right).flatten(1) @ self.core.flatten(1).T
        return _contract(factors.pairs[name], self.columns)

    @cached_property
    def columns(self) -> Tensor:
        """[L, R, D]: a second copy, made when all owners are first asked about at once; faster to multiply with."""
        return self.core.permute(1, 2, 0).contiguous()

    def squared_norms(self) -> Tensor:
        """[D]."""
        if self.left is not None and self.right is not None:
            core = (self.left.T @ self.left) @ self.core @ (self.right.T @ self.right)
            return (core * self.core).sum((1, 2))
        return self.core.square().sum((1, 2))


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """D directions over the selected parameters.

    Attributes:
        owners: whom direction d belongs to.
        matrices: by parameter name. vectors: [D, L] by parameter name (biases, norms).
    """

    owners: tuple[str, ...]
    matrices: Mapping[str, Matrix]
    vectors: Mapping[str, Tensor] = field(default_factory=dict)

    def contract(self, factors: Factors) -> Tensor:
        """<gradient of row b, direction d>: [B, D]."""
        parts = [matrix.contract(factors, name) for name, matrix in self.matrices.items() if name in factors.pairs]
        parts += [factors.vectors[name] @ vector.T for name, vector in self.vectors.items() if name in factors.vectors]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def norms(self) -> Tensor:
        """[D]."""
        parts = [matrix.squared_norms() for matrix in self.matrices.values()]
        parts += [vector.square().sum(1) for vector in self.vectors.values()]
        return torch.stack(parts).sum(0).sqrt()

    def scaled(self, weight: float) -> Directions:
        """Each direction times a number."""
        return self if weight == 1.0 else self._changed(self.owners, lambda values: values * weight)

    def with_sum(self, name: str, members: Tensor) -> Directions:
        """One more direction, of that name: the sum of those where members [D] bool is true."""
        return self._changed((*self.owners, name), lambda values: torch.cat([values, values[members].sum(0, keepdim=True)]))

    def contrast(self) -> None:
        """Take the mean of the others off each direction, in place; nothing where there is only one."""
        count = len(self.owners)
        for values in (*(matrix.core for matrix in self.matrices.values()), *self.vectors.values()):
            if count > 1:
                total = values.sum(0)
                values.mul_(count).sub_(total).div_(count - 1)

    def tensors(self) -> dict[str, Tensor]:
        """All of them by name, whose order is that of the matrices and vectors: sums over these are taken in that order."""
        found: dict[str, Tensor] = {}
        for number, (name, matrix) in enumerate(self.matrices.items()):
            for part in ("core", "left", "right"):
                if (value := getattr(matrix, part)) is not None:
                    found[f"{number:06}/{part}/{name}"] = value
        for number, (name, vector) in enumerate(self.vectors.items()):
            found[f"{number:06}/vector/{name}"] = vector
        return found

    def _changed(self, owners: tuple[str, ...], change: Callable[[Tensor], Tensor]) -> Directions:
        """Other directions of the same matrices and vectors."""
        matrices = {name: Matrix(change(m.core), m.left, m.right) for name, m in self.matrices.items()}
        return Directions(owners, matrices, {name: change(vector) for name, vector in self.vectors.items()})


def stacked(
    owners: Sequence[str], totals: Sequence[dict[str, Tensor]], projection: Mapping[str, tuple[Tensor, Tensor]]
) -> Directions:
    """Directions from one mapping of tensors per owner: matrices [L, R] (or cores of a projection), vectors [L].

    The mappings are emptied on the way: of many owners two copies would be most of the memory.
    """
    matrices: dict[str, Matrix] = {}
    vectors: dict[str, Tensor] = {}
    for name in {name: None for total in totals for name in total}:
        example = next(total[name] for total in totals if name in total)
        values = torch.stack([total.pop(name) if name in total else torch.zeros_like(example) for total in totals])
        if example.dim() == 1:
            vectors[name] = values
        else:
            matrices[name] = Matrix(values, *projection.get(name, (None, None)))
    return Directions(tuple(owners), matrices, vectors)


def from_tensors(owners: Sequence[str], tensors: Mapping[str, Tensor], device: torch.device) -> Directions:
    """`Directions.tensors` turned back."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key in sorted(tensors):
        _, part, name = key.split("/", 2)
        parts.setdefault(name, {})[part] = tensors[key].to(device)
    matrices = {name: Matrix(**found) for name, found in parts.items() if "core" in found}
    vectors = {name: found["vector"] for name, found in parts.items() if "vector" in found}
    return Directions(tuple(owners), matrices, vectors)


def project(pairs: Sequence[Pair], left: Tensor, right: Tensor) -> Tensor:
    """P_l^T g P_r of every row's gradient: [B, l, r]."""
    total: Tensor | None = None
    for pair in pairs:
        rows = left[pair.left] if pair.one_hot else pair.left @ left
        value = rows.mT @ (pair.right @ right)
        total = value if total is None else total + value
    assert total is not None
    return total


def _contract(pairs: Sequence[Pair], columns: Tensor) -> Tensor:
    """[B, D]: <sum_t left right^T, v_d>. Forms the rows' gradients some outputs at a time, so that they stay in the cache.

    An embedding tied to a head is added to the rows that the head forms anyway, instead of looking directions up.
    """
    wide, _, count = columns.shape
    total = columns.new_zeros(len(pairs[0].right), count)
    dense, looked_up = [pair for pair in pairs if not pair.one_hot], [pair for pair in pairs if pair.one_hot]
    if not dense:
        for pair in looked_up:
            total += (pair.right.flatten(1)[:, None] @ columns[pair.left].flatten(1, 2)).squeeze(1)
        return total
    for start in range(0, wide, OUTPUTS_AT_A_TIME):
        some = slice(start, min(start + OUTPUTS_AT_A_TIME, wide))
        rows = dense[0].left[:, :, some].mT @ dense[0].right  # [B, outputs, R]
        for pair in dense[1:]:
            rows += pair.left[:, :, some].mT @ pair.right
        for pair in looked_up:
            row, place = ((pair.left >= some.start) & (pair.left < some.stop)).nonzero(as_tuple=True)
            index = row * rows.shape[1] + pair.left[row, place] - start
            rows.flatten(0, 1).index_add_(0, index, pair.right[row, place].to(rows))
        total.addmm_(rows.flatten(1), columns[some].flatten(0, 1))
    return total


def runs(index: Tensor) -> list[tuple[int, slice]]:
    """Equal neighbours: [(value, rows), ...]."""
    values, counts = torch.unique_consecutive(index, return_counts=True)
    found, start = [], 0
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        found.append((int(value), slice(start, start + count)))
        start += count
    return found
