"""TRAK: attribution by a linear model of randomly projected gradients, folded into one direction per owner.

Park et al. 2023, TRAK: Attributing Model Behavior at Scale, section 3: with phi(z) = P^T grad f(z; theta), f the log-odds
of the right answer, Phi the rows phi(z_i) of the training set and Q = diag(1 - p_i),

    tau(z) = phi(z)^T (Phi^T Phi + lambda 1)^-1 Phi^T Q.

Summed over an owner's rows and written as one direction v = P (Phi^T Phi + lambda 1)^-1 sum_i q_i phi(z_i), a score is
<grad f(z), v>, which no longer depends on the size of the corpus.

Where we deviate: (1) f is the sum over tokens of log(p_t / (1 - p_t)), since the 1 - p of a whole sequence is 1; q
is one weight per row, the mean of 1 - p_t (`weighting: row`), or every token's own 1 - p_t, which turns sum_t q_t grad f_t
into the gradient of the log-likelihood (`token`; its part outside the span of Phi is scaled by 1 / lambda, which did badly
where the projection was wider than the corpus). (2) P is a random projection per layer
(see _projection.py), not one of the whole gradient. (3) a ridge, relative to the mean squared feature norm; the paper
needs none because its projection is narrower than the corpus. (4) soft-thresholding acts on single training rows, so it
is only there outside the folded path. Scores of several checkpoints are averaged as they are; the paper averages the Q
and the rest apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from deattrib import Rows, Scorer, ScorerContext, ScorerError, TokenBatch, hookimpl
from deattrib_scorers._directions import Directions, Matrix
from deattrib_scorers._factors import gradient_factors
from deattrib_scorers._linear import DirectionParams, DirectionScorer
from deattrib_scorers._projection import Projection, features, make_projection, split
from deattrib_scorers._sites import Site
from deattrib_scorers._sums import owner_batches


class Trak(DirectionScorer):
    """TRAK (Park et al. 2023) with per-token log-odds, folded into one direction per owner."""

    name = "trak"

    class Params(DirectionParams):
        """Settings of `trak`."""

        backend: Literal["own", "traker"] = Field("own", description="'traker' runs the authors' library: slow, a reference.")
        rank: int = Field(
            32, ge=1, description="Rank of the projection per layer side; features have rank^2 numbers per layer."
        )
        dimensions: int = Field(2048, gt=100, description="traker: width of its projection (it fails at 100 or less).")
        ridge: float = Field(0.1, gt=0, description="lambda, in units of the mean squared norm of a training feature.")
        weighting: Literal["token", "row", "none"] = Field("row", description="Where the 1 - p of Q goes; see the module.")
        floor: float = Field(0.05, gt=0, le=1, description="Least 1 - p of a token: what is surely known else outweighs all.")
        soft_threshold: int | None = Field(
            None, ge=1, description="Keep this many training rows per response; slow, not folded."
        )

    def weigh(self, log_probs: Tensor) -> Tensor:
        return 1 / (1 - log_probs.exp()).clamp(min=self.params.floor)

    # -- fitting ------------------------------------------------------------------------------------------------------
    def sites(self, module: nn.Module) -> tuple[Site, ...]:
        """Linear layers, and embeddings that share a matrix with one: others project to noise."""
        found = super().sites(module)
        used = {site.weight for site in found if site.kind in ("linear", "transposed")}
        return tuple(site for site in found if site.weight in used and site.weight is not None)

    def fit(self, context: ScorerContext) -> None:
        self.solved: list[tuple[Projection, Tensor]] = []
        if self.params.backend == "traker":
            from deattrib_scorers._traker import TrakerReference

            self.refuse_policy("traker")
            if self.params.checkpoint_weights is not None:
                raise ScorerError("trak: backend traker takes a plain mean over checkpoints; leave checkpoint_weights out.")
            self.context, self.loaded = context, {}
            self.table = TrakerReference(self, context)
            return
        super().fit(context)
        self.table = self._thresholded if self.params.soft_threshold else None

    @property
    def keeps_directions(self) -> bool:
        return super().keeps_directions and self.params.soft_threshold is None

    def make_directions(self, context: ScorerContext, module: nn.Module, sites: tuple[Site, ...]) -> Directions:
        projection = make_projection(sites, self.params.rank, context.seed)
        phi, weighted, owners = self._features(context, module, sites, projection)
        solve = ridge_solver(phi, self.params.ridge)
        mix = torch.zeros(len(context.owners), len(phi)).to(phi)
        mix[owners, torch.arange(len(phi))] = 1.0
        share = 1.0 / len(self.params.checkpoints)
        if self.params.soft_threshold:
            weight = self.checkpoint_weights()[len(self.solved)]
            self.solved.append((projection, solve(weighted) * share * weight))
            self.row_owners = owners
        cores = split(solve(mix @ weighted) * share, projection)
        return Directions(
            context.owners, {name: Matrix(core.to(projection[name][0]), *projection[name]) for name, core in cores.items()}
        )

    def _features(
        self, context: ScorerContext, module: nn.Module, sites: tuple[Site, ...], projection: Projection
    ) -> tuple[Tensor, Tensor, Tensor]:
        """phi [n, k], q phi [n, k], number of the owner [n]."""
        plain, weighted, owners = [], [], []
        for number, batch in owner_batches(context, self.params.batch_size):
            factors, log_probs = gradient_factors(module, sites, batch, self.weigh)
            plain.append(features(factors, projection).float())
            if self.params.weighting == "token":
                weighted.append(features(gradient_factors(module, sites, batch, torch.ones_like)[0], projection).float())
            else:
                weighted.append(plain[-1] * self._row_weights(log_probs, batch)[:, None])
            owners += [number] * len(batch)
        return torch.cat(plain), torch.cat(weighted), torch.tensor(owners, device=plain[0].device)

    def _row_weights(self, log_probs: Tensor, batch: TokenBatch) -> Tensor:
        if self.params.weighting == "none":
            return torch.ones_like(log_probs[:, 0])
        wrong = torch.where(batch.response_mask, 1 - log_probs.exp(), 0.0)
        return wrong.sum(1) / batch.response_lengths.clamp(min=1)

    # -- outside the folded path --------------------------------------------------------------------------------------
    def _thresholded(self, rows: Rows) -> Tensor:
        """[B, owners]: scores of single training rows, shrunk until few are left, then summed by owner."""
        context = self._fitted()
        taus = torch.zeros(len(rows), len(self.row_owners))
        for checkpoint, (projection, solved) in zip(self.checkpoints, self.solved, strict=True):
            with self.model(checkpoint.name) as module:
                sites = self.sites(module)
                for part, batch in self._parts(rows.batch, module):
                    factors, _ = gradient_factors(module, sites, batch, self.weigh)
                    taus[part] += (features(factors, projection).float() @ solved.T).cpu().float()
        taus = soft_threshold(taus, self.params.soft_threshold) / rows.batch.response_lengths.cpu().clamp(min=1)[:, None]
        return torch.zeros(len(rows), len(context.owners)).index_add_(1, self.row_owners.cpu(), taus)

    def close(self) -> None:
        super().close()
        self.solved = []


def ridge_solver(phi: Tensor, ridge: float) -> Callable[[Tensor], Tensor]:
    """u [D, k] -> u (Phi^T Phi + lambda 1)^-1 with lambda = ridge * mean |phi_i|^2; phi [n, k].

    Where k > n the n x n Gram matrix is solved instead (Woodbury): (u - u Phi^T (Phi Phi^T + lambda 1)^-1 Phi) / lambda.
    """
    count, width = phi.shape
    strength = ridge * float(phi.cpu().double().square().sum()) / count
    if not strength > 0:
        raise ScorerError("trak: all training gradients are 0, so there is nothing to solve: are these the model's rows?")
    if width <= count:
        gram = (phi.T @ phi).cpu().double()
        factor = torch.linalg.cholesky(gram + strength * torch.eye(width).to(gram))
        return lambda u: torch.cholesky_solve(u.cpu().double().T, factor).T.to(u)
    gram = (phi @ phi.T).cpu().double()
    factor = torch.linalg.cholesky(gram + strength * torch.eye(count).to(gram))
    return lambda u: (u - torch.cholesky_solve((u @ phi.T).cpu().double().T, factor).T.to(u) @ phi) / strength


def soft_threshold(values: Tensor, keep: int) -> Tensor:
    """Every row's values moved towards 0 by its (keep + 1)-th largest magnitude, or to 0: [B, n] -> [B, n]."""
    if keep >= values.shape[1]:
        return values
    cut = values.abs().topk(keep + 1, 1).values[:, -1:]
    return values.sign() * (values.abs() - cut).clamp(min=0)


@hookimpl
def scorers() -> Sequence[type[Scorer]]:
    return [Trak]
