"""One forward pass: logits at the response positions, and the hidden states they were made from.

The head is only applied where a response token is predicted (`logits_to_keep`), which for a vocabulary much wider
than the model is most of the work. The hidden states are taken where the head receives them, so that a value head
sees exactly what the policy head sees, on any architecture and also where the model rescales its logits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from deattrib.models.batch import TokenBatch
from deattrib.models.kernels import short_attention
from deattrib.models.wide import is_wide, log_probs_of


def response_logits(model: nn.Module, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """The distribution that predicts each response token.

    Args:
        model: a causal LM of transformers, or one wrapped by peft.
        batch: B rows with responses of up to T tokens.

    Returns:
        logits [B, T, V] (the model's dtype) and the hidden states under them [B, T, H]. Position t of both belongs
        to the prediction of response token t, so it has seen the prompt and the response tokens before t.
    """
    return _through(model, batch, whole=True)


def response_hidden(model: nn.Module, batch: TokenBatch) -> Tensor:
    """The hidden states alone, [B, T, H]: the head is applied to one position, since models do not go without."""
    return _through(model, batch, whole=False)[1]


def autocast(device: torch.device, enabled: bool) -> torch.autocast:
    """bfloat16 mixed precision, or nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def _through(model: nn.Module, batch: TokenBatch, *, whole: bool) -> tuple[Tensor, Tensor]:
    """Logits at all response positions, or (not `whole`) at the last one, and all hidden states."""
    steps = batch.response_ids.shape[1]
    captured: list[Tensor] = []
    head = head_of(model)

    def capture(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        captured.append(inputs[0])
        if not whole:
            return (inputs[0][:, -1:].contiguous(), *inputs[1:])
        # Handed a slice in 16 bits, torch multiplies row by row, each with a copy of the head of its own: 19 times the time
        # at a vocabulary of 49,152. In float32 it does not, and is left alone.
        return (inputs[0].contiguous(), *inputs[1:]) if inputs[0].element_size() < 4 else None

    handle = head.register_forward_pre_hook(capture)
    try:
        with short_attention(model, batch.input_ids.shape[1]):
            # The last response token predicts nothing that is needed, so it is not fed.
            output = model(
                input_ids=batch.input_ids[:, :-1],
                attention_mask=batch.attention_mask[:, :-1],
                position_ids=batch.position_ids[:, :-1],
                logits_to_keep=steps,
                use_cache=False,
            )
    finally:
        handle.remove()
    logits: Tensor = output.logits
    # No slice where there is nothing to cut: its backward pass would fill and copy a tensor as wide as the vocabulary.
    return logits if logits.shape[1] == steps else logits[:, -steps:], captured[-1][:, -steps:]


def head_of(model: nn.Module) -> nn.Module:
    """The layer that turns hidden states into logits."""
    find = getattr(model, "get_output_embeddings", None)
    head: nn.Module | None = find() if find is not None else None
    if head is None:
        raise TypeError(f"{type(model).__name__} has no output embeddings: a causal language model is needed.")
    return head


def gather_log_probs(logits: Tensor, ids: Tensor, *, temperature: float = 1.0) -> Tensor:
    """log p(ids) in float32. logits [B, T, V], ids [B, T] -> [B, T]."""
    if is_wide(logits):
        return log_probs_of(logits, ids, temperature)
    scaled = logits.float() if temperature == 1.0 else logits.float() / temperature
    losses = nn.functional.cross_entropy(scaled.flatten(0, 1), ids.flatten(), reduction="none")
    return -losses.view(ids.shape)
