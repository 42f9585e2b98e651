"""The authors' TRAK library (distribution `traker`) behind the same questions: a reference, far from loop speed.

It brings no output function for causal language models, so one is given here: f = sum over response tokens of log(p_t /
(1 - p_t)), with the mean of 1 - p_t as the row's weight. The library loads checkpoints into the model it is given, so it
gets a copy.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from deattrib import Rows, ScorerContext, TokenBatch


class TrakerReference:
    """Rows -> [B, owners] by the original library.

    Args:
        scorer: a `Trak` scorer, for its settings and models.
        context: what it is fitted on.
        projector: one of the library's, or of its interface; None: the library's own, `dimensions` wide.
        ridge: the library's `lambda_reg`, in units of its own normalised features.
    """

    def __init__(self, scorer: Any, context: ScorerContext, *, projector: Any = None, ridge: float = 1e-2) -> None:
        self.folder = tempfile.mkdtemp(prefix="deattrib-traker-")
        from trak import TRAKer

        self.owners = context.owners
        self.size = scorer.params.batch_size
        self.floor = scorer.params.floor
        self.calls = 0
        examples = [(number, row) for number, rows in enumerate(context.rows_by_owner.values()) for row in rows]
        self.numbers = torch.tensor([number for number, _ in examples])
        batch = context.codec.encode([row.prompt for _, row in examples], [row.response for _, row in examples])
        self.states: list[dict[str, Tensor]] = []
        self.device = context.device
        for name in scorer.params.checkpoints:
            with scorer.model(name, fitting=True) as module:
                self.states.append({key: value.detach().clone() for key, value in module.state_dict().items()})
        model = context.original.clone().requires_grad_(True)
        self.traker = TRAKer(
            model=model,
            task=_output_function(self.floor),
            train_set_size=len(examples),
            save_dir=self.folder,
            device=str(self.device),
            proj_dim=scorer.params.dimensions,
            projector=projector,
            projector_seed=context.seed,
            lambda_reg=ridge,
            use_half_precision=False,
            proj_max_batch_size=8,
            logging_level=logging.CRITICAL,
        )
        for number, state in enumerate(self.states):
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                self.traker.load_checkpoint(state, model_id=number)
                for tensors in self._batches(batch):
                    self.traker.featurize(batch=tensors, num_samples=len(tensors[0]))
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars
            self.traker.finalize_features()

    def __call__(self, rows: Rows) -> Tensor:
        self.calls += 1
        name = f"call-{self.calls}"
        for number, state in enumerate(self.states):
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                self.traker.start_scoring_checkpoint(exp_name=name, checkpoint=state, model_id=number, num_targets=len(rows))
                for tensors in self._batches(rows.batch):
                    self.traker.score(batch=tensors, num_samples=len(tensors[0]))
        with contextlib.redirect_stderr(io.StringIO()):
            values = torch.as_tensor(self.traker.finalize_scores(exp_name=name)).float().T  # [B, n]
        table = torch.zeros(len(rows), len(self.owners)).index_add_(1, self.numbers, values.cpu())
        return table / rows.batch.response_lengths.cpu().clamp(min=1)[:, None]

    def _batches(self, batch: TokenBatch) -> list[list[Tensor]]:
        tensors = [batch.input_ids[:, :-1], batch.attention_mask[:, :-1], batch.position_ids[:, :-1]]
        tensors += [batch.response_ids, batch.response_mask]
        parts = range(0, len(batch), self.size)
        return [[one[start : start + self.size].to(self.device) for one in tensors] for start in parts]

    def __del__(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _output_function(floor: float) -> Any:
    from trak.modelout_functions import AbstractModelOutput

    class LogOdds(AbstractModelOutput):  # type: ignore[misc]
        """Sum of the response tokens' log-odds."""

        def __init__(self) -> None:
            pass

        @staticmethod
        def get_output(model: nn.Module, weights: Any, buffers: Any, *sample: Tensor) -> Tensor:
            log_probs, mask = _log_probs(model, weights, buffers, *(one[None] for one in sample))
            odds = log_probs - torch.log((1 - log_probs.exp()).clamp(min=floor))
            # Below the floor the odds' slope is that of log p / floor, as in the folded scorer.
            flat = log_probs / floor
            return (torch.where((1 - log_probs.exp()) > floor, odds, flat) * mask).sum()

        def get_out_to_loss_grad(self, model: nn.Module, weights: Any, buffers: Any, batch: Any) -> Tensor:
            with torch.no_grad():
                log_probs, mask = _log_probs(model, weights, buffers, *batch)
            wrong = (1 - log_probs.exp()) * mask
            return (wrong.sum(1) / mask.sum(1).clamp(min=1))[:, None]

    return LogOdds()


def _log_probs(
    model: nn.Module, weights: Any, buffers: Any, ids: Tensor, mask: Tensor, positions: Tensor, response: Tensor, keep: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the response tokens and their mask, [B, T] both; made of operations that vmap knows."""
    width = ids.shape[1]
    earlier = torch.ones(width, width, dtype=torch.bool, device=ids.device).tril()
    allowed = earlier[None, None] & mask.bool()[:, None, None, :]
    dtype = next(iter(weights.values())).dtype
    blocked = torch.where(allowed, 0.0, torch.finfo(dtype).min).to(dtype)
    arguments = {"input_ids": ids, "attention_mask": blocked, "position_ids": positions, "use_cache": False}
    logits = functional_call(model, (weights, buffers), args=(), kwargs=arguments).logits[:, -response.shape[1] :]
    log_probs = logits.float().log_softmax(-1).gather(2, response[:, :, None]).squeeze(2)
    return log_probs, keep.to(log_probs)
