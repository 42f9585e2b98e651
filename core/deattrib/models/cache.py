"""A key/value cache with room for what is still to be sampled.

The library's own cache is copied as a whole for every token; here a token is written behind the others. What attention is
handed are the same numbers, seen through strides. Layers of other kinds (sliding windows, states) are left as they are.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def with_room(cache: Any, tokens: int) -> Any:
    """The cache, its plain layers replaced in place by ones with room for so many further tokens."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    if type(cache) is not DynamicCache or getattr(cache, "offloading", False):
        return cache
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.get_seq_length() > 0:
            cache.layers[index] = _roomy(layer, tokens)
    return cache


def _roomy(layer: Any, tokens: int) -> Any:
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):  # type: ignore[misc]
        """`keys` and `values` [B, heads, T, width] are views of the filled part of two larger tensors, the `room`."""

        keys: Any
        values: Any
        room: tuple[Tensor, ...]

        def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
            start = self.keys.shape[-2]
            end = start + key_states.shape[-2]
            self.room = tuple(_at_least(room, end) for room in self.room)
            for room, new in zip(self.room, (key_states, value_states), strict=True):
                room[:, :, start:end] = new
            self.keys, self.values = (room[:, :, :end] for room in self.room)
            return self.keys, self.values

        def batch_repeat_interleave(self, repeats: int) -> None:
            self._change(lambda room: room.repeat_interleave(repeats, dim=0))

        def batch_select_indices(self, indices: Tensor) -> None:
            self._change(lambda room: room[indices])

        def _change(self, how: Any) -> None:
            filled = self.keys.shape[-2]
            self.room = tuple(how(room) for room in self.room)
            self.keys, self.values = (room[:, :, :filled] for room in self.room)

    roomy = RoomyLayer()
    roomy.dtype, roomy.device, roomy.is_initialized = layer.dtype, layer.device, True
    filled = layer.keys.shape[-2]
    roomy.room = tuple(_at_least(states, filled + tokens) for states in (layer.keys, layer.values))
    roomy.keys, roomy.values = (room[:, :, :filled] for room in roomy.room)
    return roomy


def _at_least(states: Tensor, tokens: int) -> Tensor:
    """[B, heads, T, width] with at least so many places for tokens, the old ones copied."""
    rows, heads, filled, width = states.shape
    if filled >= tokens:
        return states
    larger: Tensor = states.new_empty(rows, heads, tokens, width)
    larger[:, :, :filled] = states
    return larger
