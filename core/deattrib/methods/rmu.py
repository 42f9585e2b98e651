"""Representation misdirection: `rmu`.

Li et al., The WMDP Benchmark (2024, arXiv 2403.03218), section 4: at one layer, forget activations go to c u, with u a
random direction of length 1 drawn once, and retain activations stay what they were in the original model, weighted by
alpha; squared distances, means over tokens. They train the MLP output of three layers; here whatever the policy trains
(its adapters up to that layer), and activations are those from which an answer's tokens are predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from deattrib.corpus.types import Example
from deattrib.errors import ConfigError
from deattrib.methods.base import Method
from deattrib.models.batch import TokenBatch
from deattrib.models.forward import response_logits
from deattrib.ppo.losses import masked_mean
from deattrib.ppo.search import Choice, Span


class RMU(Method):
    """Representation misdirection of forget answers at one layer."""

    name = "rmu"
    splits = True
    search = {"steering": Span(1.0, 50.0), "alpha": Span(0.1, 2000.0), "depth": Choice((0.25, 0.5, 0.75))}

    class Params(Method.Params):
        """Weights of RMU, whose retain term is `alpha`."""

        idle = ("retain", "retain_weight")

        layer: int | None = Field(None, ge=0, description="Block whose output is steered, from 0; null: as `depth` says.")
        depth: float = Field(0.25, ge=0, lt=1, description="Without `layer`: how far up, as a share of the blocks.")
        steering: float = Field(6.5, gt=0, description="c: length of the target (6.5 in the paper, for a model of 7B).")
        alpha: float = Field(1200.0, ge=0, description="Weight of the retain distance (1200 in the paper).")

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        config = self.policy.backbone.config.get_text_config()
        count = int(config.num_hidden_layers)
        self.layer = int(count * self.params.depth) if self.params.layer is None else self.params.layer
        if self.layer >= count:
            raise ConfigError(
                f"Method 'rmu': layer {self.layer} does not exist; the model has {count} blocks, 0 to {count - 1}."
            )
        direction = torch.rand(config.hidden_size, generator=torch.Generator().manual_seed(named["seed"]))
        self.target = (direction / direction.norm() * self.params.steering).to(self.policy.device)

    def total_loss(self) -> tuple[Tensor, dict[str, float]]:
        loss = self.forget_loss(self.next_rows())
        batch = self.encode(self.next_retain_rows())
        with torch.no_grad(), self.policy.original().active() as original:
            before = activations(original, batch, self.layer)
        mask = batch.response_mask
        kept = squared_distance(activations(self.policy.backbone, batch, self.layer), before, mask, self.tokens(mask))
        return loss + self.params.alpha * kept, {"forget_loss": float(loss.detach()), "retain_loss": float(kept.detach())}

    def forget_loss(self, rows: Sequence[Example]) -> Tensor:
        batch = self.encode(rows)
        mask = batch.response_mask
        return squared_distance(activations(self.policy.backbone, batch, self.layer), self.target, mask, self.tokens(mask))


def squared_distance(states: Tensor, target: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
    """E_t |h_t - target|^2. states [B, T, H], target [B, T, H] or [H], mask [B, T] -> scalar."""
    return masked_mean(((states.float() - target.float()) ** 2).sum(-1), mask, tokens)


def activations(model: nn.Module, batch: TokenBatch, layer: int) -> Tensor:
    """[B, T, H]: output of block `layer` where response tokens are predicted."""
    config: Any = model.config
    count = config.get_text_config().num_hidden_layers
    blocks = next((m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == count), None)
    if blocks is None:
        raise ConfigError(f"Method 'rmu': no list of {count} blocks in {type(model).__name__}; take another method.")
    captured: list[Tensor] = []

    def capture(_module: nn.Module, _inputs: Any, output: Any) -> None:
        captured.append(output[0] if isinstance(output, tuple) else output)

    handle = blocks[layer].register_forward_hook(capture)
    try:
        response_logits(model, batch)
    finally:
        handle.remove()
    return captured[-1][:, -batch.response_ids.shape[1] :]
