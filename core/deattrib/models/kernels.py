"""Attention by single products, where torch's own choice of a kernel is a bad one.

On processors the backward pass of fused attention is slow in 16 bits: with 32 rows of 55 tokens and 4 heads of 32 it took
17 ms, and 1.5 ms as the products that it is made of. These keep rows x heads x tokens^2 numbers per layer, so only small models
get them. All passes take the same way, those without gradients too, or PPO's ratio would not begin at 1.

The choice is this thread's alone: torch's switches for kernels are the whole process', and other threads run models, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from deattrib.models.threads import is_small

SHORT = 128  # tokens of a row up to which single products are faster
_INSIDE: ContextVar[bool] = ContextVar("attention by single products", default=False)


def short_attention(model: nn.Module, tokens: int) -> AbstractContextManager[Any]:
    """To call a model in, with rows of so many tokens: single products where they are faster, else what torch chooses."""
    one = next(model.parameters())
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else one.dtype
    single = one.device.type == "cpu" and dtype.itemsize < 4 and tokens <= SHORT and is_small(model)
    return SingleProducts() if single else nullcontext()


def same_attention() -> AbstractContextManager[Any]:
    """For what is computed again later: attention as it is computed here and now. May be entered again and again."""
    return SingleProducts() if _INSIDE.get() else nullcontext()


class SingleProducts(TorchFunctionMode):
    """Inside, in this thread, `scaled_dot_product_attention` is two products and a softmax in float32."""

    def __enter__(self) -> SingleProducts:
        self.before = _INSIDE.set(True)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        _INSIDE.reset(self.before)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is functional.scaled_dot_product_attention and not given.get("dropout_p") and len(args) <= 4:
            return attention(*args, **{name: value for name, value in given.items() if name != "dropout_p"})
        return func(*args, **given)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """As torch's `scaled_dot_product_attention` without dropout: [..., heads, L, E], [..., heads, S, E] -> [..., heads, L, E].

    A query that may look at nothing looks at everything alike, where the original gives 0 or NaN; it is a padding token's.
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if enable_gqa:
        copies = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(copies, -3), value.repeat_interleave(copies, -3)
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, torch.finfo(dtype).min)
    elif attn_mask is not None:
        scores = scores + attn_mask.to(dtype)
    return torch.softmax(scores, -1, dtype=torch.float32).to(dtype) @ value
