"""Which of torch's kernels computes attention, where its own choice is a bad one.

On processors the backward pass of fused attention is slow in 16 bits: with 32 rows of 55 tokens and 4 heads of 32 it took
17 ms, and 3 ms as single products. These keep rows x heads x tokens^2 numbers per layer, so only small models get them. All
passes take the same kernel, those without gradients too, or PPO's ratio would not begin at 1.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from deattrib.models.threads import is_small

SHORT = 128  # tokens of a row up to which single products are faster


def short_attention(model: nn.Module, tokens: int) -> AbstractContextManager[None]:
    """To call a model in, with rows of so many tokens: single products where they are faster, else what torch chooses."""
    one = next(model.parameters())
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else one.dtype
    single = one.device.type == "cpu" and dtype.itemsize < 4 and tokens <= SHORT and is_small(model)
    return sdpa_kernel(SDPBackend.MATH) if single else nullcontext()


class SameKernels:
    """Inside, attention is computed by the kernels that were allowed when this was made; may be entered again and again."""

    def __init__(self) -> None:
        self.allowed = [
            backend
            for backend, allowed in (
                (SDPBackend.FLASH_ATTENTION, torch.backends.cuda.flash_sdp_enabled()),
                (SDPBackend.EFFICIENT_ATTENTION, torch.backends.cuda.mem_efficient_sdp_enabled()),
                (SDPBackend.CUDNN_ATTENTION, torch.backends.cuda.cudnn_sdp_enabled()),
                (SDPBackend.MATH, torch.backends.cuda.math_sdp_enabled()),
            )
            if allowed
        ]

    def __enter__(self) -> None:
        self.inner = sdpa_kernel(self.allowed)
        self.inner.__enter__()

    def __exit__(self, *error: object) -> None:
        self.inner.__exit__(*error)  # type: ignore[arg-type]
