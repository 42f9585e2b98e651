"""A second set of modules around the same tensors.

Adapters, hooks and flags belong to modules, weights to tensors: with a twin the frozen original can be asked while its
weights carry the policy's adapter, and from another thread than the one that hangs hooks on it, at no memory for weights.
"""

from __future__ import annotations

import copy
import itertools

from torch import nn


def twin(model: nn.Module) -> nn.Module:
    """The model again, every parameter and buffer the very same tensor; in eval mode, and no flag of a tensor is touched."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    shared: dict[int, object] = {id(tensor): tensor for tensor in tensors}
    return copy.deepcopy(model, shared).eval()
