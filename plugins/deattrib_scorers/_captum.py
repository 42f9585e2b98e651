"""captum's influence implementations behind the same questions: references, far from loop speed.

Both compare gradients of the mean loss per response token, row against training row; an owner's score is the sum over its rows.
captum loads checkpoints into the model it is given, so it gets a copy.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from deattrib import Rows, ScorerContext, ScorerError, TokenBatch

IGNORED = -100


class CaptumReference:
    """Rows -> [B, owners] by captum.

    Args:
        scorer: an `Influence` scorer, for its settings and models.
        context: what it is fitted on.

    Raises:
        ScorerError: captum-naive without `captum_layers`, or with several checkpoints.
    """

    def __init__(self, scorer: Any, context: ScorerContext) -> None:
        from captum.influence import TracInCP
        from captum.influence._core.influence_function import NaiveInfluenceFunction

        params = scorer.params
        if params.backend == "captum-naive" and len(params.checkpoints) > 1:
            raise ScorerError(f"influence: backend captum-naive takes one checkpoint, and {len(params.checkpoints)} are given.")
        examples = [(number, row) for number, rows in enumerate(context.rows_by_owner.values()) for row in rows]
        self.numbers = torch.tensor([number for number, _ in examples])
        self.owners, self.device, self.size = context.owners, context.device, params.batch_size
        batch = context.codec.encode([row.prompt for _, row in examples], [row.response for _, row in examples])
        states: dict[str, dict[str, Tensor]] = {}
        weights: dict[str, float] = dict(zip(params.checkpoints, scorer.checkpoint_weights(), strict=True))
        self.scale = 1.0
        for name in params.checkpoints:
            with scorer.model(name, fitting=True) as module:
                states[name] = {key: value.detach().clone() for key, value in bare_state(module).items()}
        wrapped = _Logits(context.original.clone().requires_grad_(True)).eval()

        def load(model: Any, name: str) -> float:
            model.model.load_state_dict(states[name])
            return weights[name]  # its learning rate, in the words of the TracIn paper; only TracInCP looks at it

        train = TensorDataset(*self._tensors(batch))
        shared: dict[str, Any] = {"checkpoints_load_func": load, "batch_size": self.size, "loss_fn": _RowLosses()}
        if params.backend == "captum-tracin":
            self.captum: Any = TracInCP(wrapped, train, list(states), sample_wise_grads_per_batch=False, **shared)
        elif not params.captum_layers:
            raise ScorerError("influence: backend captum-naive needs captum_layers, names of small modules.")
        else:
            self.scale = weights[params.checkpoints[0]]
            self.captum = NaiveInfluenceFunction(
                wrapped,
                train,
                next(iter(states)),
                layers=[f"model.{name}" for name in params.captum_layers],
                sample_wise_grads_per_batch=False,
                projection_dim=params.captum_projection,
                seed=context.seed,
                **shared,
            )

    def __call__(self, rows: Rows) -> Tensor:
        parts = []
        for start in range(0, len(rows), self.size):
            batch = rows.batch.rows(slice(start, start + self.size))
            with torch.enable_grad(), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                parts.append(self.captum.influence(tuple(self._tensors(batch))).detach().cpu().float())
        return torch.zeros(len(rows), len(self.owners)).index_add_(1, self.numbers, self.scale * torch.cat(parts))

    def _tensors(self, batch: TokenBatch) -> list[Tensor]:
        labels = torch.where(batch.response_mask, batch.response_ids, IGNORED)
        tensors = [batch.input_ids[:, :-1], batch.attention_mask[:, :-1], batch.position_ids[:, :-1], labels]
        return [tensor.to(self.device) for tensor in tensors]


def bare_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of a model that no adapter is on; at fitting the original is still alone."""
    return dict(module.state_dict())


class _Logits(nn.Module):
    """A causal LM as captum calls it: tensors in, logits out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        output = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        logits: Tensor = output.logits
        return logits


class _RowLosses(nn.Module):
    """Mean cross-entropy of each row's response tokens: [B]."""

    reduction = "none"

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        steps = labels.shape[1]
        values = nn.functional.cross_entropy(
            logits[:, -steps:].transpose(1, 2).float(), labels, reduction="none", ignore_index=IGNORED
        )
        return values.sum(1) / (labels != IGNORED).sum(1).clamp(min=1)
