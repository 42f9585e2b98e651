"""A second set of modules around the same tensors.

Adapters, hooks and flags belong to modules, weights to tensors: with a twin the frozen original can be asked while its
weights carry the policy's adapter, and from another thread than the one that hangs hooks on it, at no memory for weights.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def twin(model: M, *, also: Iterable[object] = (), views: bool = False) -> M:
    """The model again, every parameter and buffer the very same tensor; in eval mode, and no flag of a tensor is touched.

    Args:
        also: objects in it that are shared like the tensors.
        views: parameters are frozen objects of their own over the same memory: what freezes or trains one of the two models
            does not reach the other's flags. Tied parameters stay tied.
    """
    shared = {id(item): item for item in itertools.chain(model.parameters(), model.buffers(), also)}
    if views:
        shared |= {id(item): nn.Parameter(item.detach(), requires_grad=False) for item in model.parameters()}
    return copy.deepcopy(model, shared).eval()
