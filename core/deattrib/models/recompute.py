"""Gradient checkpointing: a block's activations are thrown away and computed again when the backward pass comes to it.

Memory for activations falls from all blocks' to one block's and a hidden state per block, at a third more work (Chen et al.
2016, Training Deep Nets with Sublinear Memory Cost). The library's own switch only works in training mode, which would also
switch dropout on; here the blocks are called through torch's checkpoint for the time of one forward pass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from deattrib.errors import ConfigError
from deattrib.models.kernels import same_attention


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks that may be computed again. Raises ConfigError where the architecture does not say which they are."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    found = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not found:
        raise ConfigError(
            f"policy.checkpointing: {type(model).__name__} has no blocks that transformers would checkpoint; set it to false."
        )
    return found


@contextmanager
def recomputing(model: nn.Module, enabled: bool) -> Iterator[None]:
    """Inside, what a forward pass with gradients would keep of each block is computed again by its backward pass."""
    if not enabled or not torch.is_grad_enabled():
        yield
        return
    with ExitStack() as stack:
        for block in blocks_of(model):
            # On the object, not for good: a copy of the model would go on calling this very block.
            block.forward = functools.partial(_again, block.forward)
            stack.callback(block.__dict__.pop, "forward", None)
        yield


def _again(forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    # Nothing is drawn in eval mode, so there is no random state to put back.
    return checkpoint(
        forward,
        *arguments,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), same_attention()),
        **named,
    )
