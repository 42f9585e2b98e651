"""Influence functions with one global preconditioner, folded into one direction per owner.

    s(y) = 1/T sum_t <grad log p(y_t | q, y_<t), H^-1 sum over the owner's rows of grad mean_t log p>

is the first-order change of the response's log-likelihood when the owner's rows get more weight (Koh and Liang 2017,
Understanding Black-box Predictions via Influence Functions, section 2.1, equation 2), H being an approximation of the
Gauss-Newton matrix that is the same for all responses, so that H^-1 can be applied to the owners' gradients once, at
fitting.

- `fisher`: the diagonal of the Fisher matrix of the mean loss per token (see _curvature.py).
- `adam`: the square root of the mean squared batch gradient, what Adam divides by (LESS, Xia et al. 2024).
- `ekfac`: the Fisher matrix of each layer in the eigenbasis of its Kronecker factors E[g g^T] (x) E[x x^T], with the
  eigenvalues measured there (George et al. 2018; Grosse et al. 2023, Studying Large Language Model Generalization with
  Influence Functions); padding counts in neither. A side wider than `widest` keeps its own basis, which there is the
  diagonal.

Fisher matrices are measured at tokens drawn from the model (`labels: sampled`) and damped by
`damping` times their mean eigenvalue, as there. Where we deviate: embeddings and norms are included, norms and biases
with their diagonal; `contrast` takes the mean of the other owners' directions off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from deattrib import Scorer, ScorerContext, hookimpl
from deattrib_scorers._curvature import AdamMoments, Curvature, DiagonalFisher, Ekfac
from deattrib_scorers._directions import Directions, stacked
from deattrib_scorers._factors import gradient_factors
from deattrib_scorers._linear import DirectionParams, DirectionScorer
from deattrib_scorers._sites import Site, weight_shape
from deattrib_scorers._sums import Summed, add_up, owner_batches, response_means


class Influence(DirectionScorer):
    """Influence functions (Koh and Liang 2017) with a diagonal, Adam or EK-FAC preconditioner."""

    name = "influence"

    class Params(DirectionParams):
        """Settings of `influence`."""

        backend: Literal["own", "captum-naive", "captum-tracin"] = Field(
            "own", description="captum's NaiveInfluenceFunction or TracInCP: slow, references."
        )
        preconditioner: Literal["fisher", "adam", "ekfac"] = Field("ekfac", description="How H is approximated.")
        damping: float = Field(0.1, gt=0, description="Added to H, in units of its mean eigenvalue per layer.")
        labels: Literal["sampled", "data"] = Field(
            "sampled", description="fisher, ekfac: H at tokens drawn from the model, or at the training tokens."
        )
        widest: int = Field(1024, ge=1, description="ekfac: widest side of a layer that gets an eigenbasis.")
        contrast: bool = Field(True, description="Take the mean direction of the other owners off.")
        captum_layers: tuple[str, ...] = Field((), description="captum-naive: modules whose Hessian is taken, by name.")
        captum_projection: int = Field(50, ge=1, description="captum-naive: width of its projection.")

    def fit(self, context: ScorerContext) -> None:
        if self.params.backend == "own":
            super().fit(context)
            return
        from deattrib_scorers._captum import CaptumReference

        self.refuse_policy(self.params.backend)
        self.context, self.loaded = context, {}
        self.table = CaptumReference(self, context)

    def make_directions(self, context: ScorerContext, module: nn.Module, sites: tuple[Site, ...]) -> Directions:
        outs = {site.weight: weight_shape(site)[0] for site in sites if site.weight is not None and site.kind != "norm"}
        totals: list[Summed] = [{} for _ in context.owners]
        generator = torch.Generator().manual_seed(context.seed) if self.params.labels == "sampled" else None
        curvature = self._curvature(outs)
        for turn in range(curvature.passes):
            for number, batch in owner_batches(context, self.params.batch_size):
                weigh = response_means(batch, curvature.exponent)
                drawn = generator is not None and not curvature.at_data
                if turn == 0 or not drawn:
                    factors, _ = gradient_factors(module, sites, batch, weigh)
                if turn == 0:  # the owner's sum takes means over tokens, whatever the curvature sees
                    lengths = batch.response_lengths.clamp(min=1).float()
                    add_up(totals, number, factors, lengths ** (curvature.exponent - 1), outs)
                if drawn:
                    factors, _ = gradient_factors(module, sites, batch, weigh, draw=generator)
                curvature.see(factors, turn)
        for total in totals:
            for name, value in total.items():
                total[name] = curvature.solve(name, value, self.params.damping)
        directions = stacked(context.owners, totals, {})
        if self.params.contrast:
            directions.contrast()
        return directions

    def _curvature(self, outs: dict[str, int]) -> Curvature:
        if self.params.preconditioner == "adam":
            return AdamMoments(outs)
        return Ekfac(outs, self.params.widest) if self.params.preconditioner == "ekfac" else DiagonalFisher(outs)


@hookimpl
def scorers() -> Sequence[type[Scorer]]:
    return [Influence]
