"""Gradient similarity: does a step on the owner's rows make the response likelier?

    s(y) = 1/T sum_t <grad log p(y_t | q, y_<t), v_owner>,   v_owner = sum over the owner's rows of grad mean_t log p

is GradDot (Charpiat et al. 2019, Input Similarity from the Neural Network Perspective); summed over
checkpoints it is TracInCP (Pruthi et al. 2020, Estimating Training Data Influence by Tracing Gradient Descent).
With `similarity: normalised` each training gradient counts with length 1, so that no single surprising
row decides for its owner; `cosine` divides by the response's gradient norm too (taken from activations and output
gradients: ghost norms).

Where we deviate: the owner's rows are summed into one direction before anything is scored, which for the first two is the
same number; `contrast` takes the mean of the other owners' directions off, which leaves what is particular to the owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from deattrib import Rows, Scorer, ScorerContext, ScorerError, TokenBatch, hookimpl
from deattrib_scorers._adapter import AdapterSpace
from deattrib_scorers._directions import Directions, project, stacked
from deattrib_scorers._factors import Factors, gradient_factors
from deattrib_scorers._linear import DirectionParams, DirectionScorer, prefix_by_prefix
from deattrib_scorers._projection import make_projection
from deattrib_scorers._sites import Site, weight_shape
from deattrib_scorers._sums import Summed, add_up, owner_batches, response_means


class Gradient(DirectionScorer):
    """Similarity of the response's gradient to the gradients of the owner's rows (GradDot, TracIn, cosine)."""

    name = "gradient"

    class Params(DirectionParams):
        """Settings of `gradient`."""

        similarity: Literal["dot", "normalised", "cosine"] = Field(
            "normalised", description="dot; training gradients of length 1; or both sides (one backward pass per prefix)."
        )
        contrast: bool = Field(True, description="Take the mean direction of the other owners off.")
        parameters: Literal["all", "adapter"] = Field(
            "all", description="Gradients in the model's parameters, or in those of a fresh LoRA on its linear layers."
        )
        adapter_rank: int = Field(16, ge=1, description="parameters adapter: the LoRA's rank.")
        projection: int | None = Field(
            None, ge=1, description="Rank of a factored random projection of the matrices; null: exact. Less memory."
        )

    # -- fitting ------------------------------------------------------------------------------------------------------
    def sites(self, module: nn.Module) -> tuple[Site, ...]:
        found = super().sites(module)
        return AdapterSpace.sites(module, found) if self.params.parameters == "adapter" else found

    def make_directions(self, context: ScorerContext, module: nn.Module, sites: tuple[Site, ...]) -> Directions:
        if self.params.projection and self.params.parameters == "adapter":
            raise ScorerError("gradient: parameters adapter is a projection already; leave `projection` out.")
        space = self._space(sites)
        projection = make_projection(sites, self.params.projection, context.seed) if self.params.projection else {}
        outs = {site.weight: weight_shape(site)[0] for site in sites if site.weight is not None and site.kind != "norm"}

        def core(name: str, factors: Factors, row_weights: Tensor) -> Tensor:
            left, right = projection[name]
            rows = project(factors.pairs[name], left, right)
            return (row_weights.to(left)[:, None, None] * rows).sum(0)

        totals: list[Summed] = [{} for _ in context.owners]
        for number, batch in owner_batches(context, self.params.batch_size):
            factors, _ = gradient_factors(module, sites, batch, response_means(batch))
            factors = space.inside(factors) if space else factors
            lengths = torch.ones(len(batch), device=batch.response_ids.device)
            if self.params.similarity != "dot":
                norms = factors.norms()
                lengths = torch.where(norms > 0, 1 / norms.clamp(min=1e-30), 0.0)
            add_up(totals, number, factors, lengths, outs, core if projection else None)
        directions = stacked(context.owners, totals, projection)
        directions = space.outside(directions) if space else directions
        if self.params.contrast:
            directions.contrast()
        return directions

    def _space(self, sites: Sequence[Site]) -> AdapterSpace | None:
        if self.params.parameters == "all":
            return None
        assert self.context is not None
        return AdapterSpace(sites, self.params.adapter_rank, self.context.seed)

    # -- the cosine, which is not linear in the response --------------------------------------------------------------
    def shares(
        self, module: nn.Module, sites: Sequence[Site], batch: TokenBatch, directions: Directions, index: Tensor
    ) -> Tensor:
        values = super().shares(module, sites, batch, directions, index)
        if self.params.similarity != "cosine":
            return values
        norms, lengths = self._norms(gradient_factors(module, sites, batch, torch.ones_like)[0], sites), batch.response_lengths
        scaled: Tensor = values * torch.where(norms > 0, lengths / norms.clamp(min=1e-30), 0.0)[:, None]
        return scaled

    def whole(self, module: nn.Module, sites: Sequence[Site], batch: TokenBatch, directions: Directions) -> Tensor:
        if self.params.similarity != "cosine":
            return super().whole(module, sites, batch, directions)
        factors, _ = gradient_factors(module, sites, batch, self.weigh)
        norms = self._norms(factors, sites)
        cosines: Tensor = directions.contract(factors) * torch.where(norms > 0, 1 / norms.clamp(min=1e-30), 0.0)[:, None]
        return cosines

    def _norms(self, factors: Factors, sites: Sequence[Site]) -> Tensor:
        space = self._space(sites)
        return (space.inside(factors) if space else factors).norms()

    def score_prefixes(self, rows: Rows, ends: Tensor) -> Tensor:
        if self.params.similarity != "cosine":
            return super().score_prefixes(rows, ends)
        return prefix_by_prefix(self.score, rows, ends)


@hookimpl
def scorers() -> Sequence[type[Scorer]]:
    return [Gradient]
