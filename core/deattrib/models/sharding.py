"""Weights spread over processes: torch's FSDP2 (`fully_shard`), each process holding its part of every tensor.

Whole tensors exist for one block at a time, while it computes. What is saved, and what is evaluated after the loop, is
gathered again, so that neither a checkpoint nor a result knows how many processes there were.

An original model that lives in the same tensors (`deattrib.models.twin`) cannot stay a second set of modules: it is asked
through the spread ones, with the adapter off (`WithoutAdapter`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from deattrib.models.language_model import Codec, LanguageModel


class WithoutAdapter(LanguageModel):
    """The original model inside of a policy whose weights are spread: every call switches the adapter off.

    Args:
        model: the policy's backbone; no flag of it is changed.
        off: switches the adapter off while it is open.
    """

    def __init__(self, model: nn.Module, codec: Codec, off: Callable[[], AbstractContextManager[None]], *, name: str) -> None:
        self.model, self.codec, self.name, self._off = model, codec, name, off

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        with self._off(), super().active() as model:
            yield model


class Whole:
    """What some modules are without their weights, made before those are spread; gives the modules back at the end.

    Args:
        modules: which share tensors or not; buffers are kept as they are.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        known: dict[int, Any] = {}
        for module in modules:
            for parameter in module.parameters():
                known[id(parameter)] = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
            known |= {id(buffer): buffer for buffer in module.buffers()}
        self.empty = copy.deepcopy(list(modules), known)

    def filled(self, spread: nn.Module) -> list[nn.Module]:
        """The modules with the weights that the first of them has now, gathered from all processes."""
        values: dict[int, nn.Parameter] = {}
        now = dict(spread.named_parameters())
        for name, parameter in self.empty[0].named_parameters():
            values[id(parameter)] = nn.Parameter(whole(now[name].detach()), requires_grad=parameter.requires_grad)
        for module in self.empty:
            for part in module.modules():
                for name, held in part._parameters.items():
                    if held is not None and id(held) in values:
                        part._parameters[name] = values[id(held)]
        return self.empty


def spread(model: nn.Module) -> None:
    """Spread a model's weights over all processes, block by block; it is called as before, by all of them together."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(next(model.parameters()).device.type, (torch.distributed.get_world_size(),))
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer; none where the model does not say how many it has."""
    config: Any = getattr(model, "config", None)
    count = config.get_text_config().num_hidden_layers if config is not None else -1
    lists = (item for item in model.modules() if isinstance(item, nn.ModuleList) and len(item) == count)
    return list(next(lists, ()))


def is_spread(value: Any) -> bool:
    """Whether a tensor is this process' part of one."""
    return hasattr(value, "full_tensor")  # not by its class, which takes a while to load


def whole(value: Tensor) -> Tensor:
    """The whole tensor, where it is one of several parts; all processes ask together."""
    gather = getattr(value, "full_tensor", None)
    full: Tensor = value if gather is None else gather()
    return full


def as_is(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor spread as another one is; itself where that one is not."""
    if not is_spread(like):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def whole_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """A copy of the optimiser's state with whole tensors."""
    state = optimiser.state_dict()
    tensors = {
        index: {name: whole(value).clone() if isinstance(value, Tensor) else value for name, value in entry.items()}
        for index, entry in state["state"].items()
    }
    return {"state": tensors, "param_groups": copy.deepcopy(state["param_groups"])}


def spread_state(state: dict[str, Any], parameters: Iterable[nn.Parameter]) -> dict[str, Any]:
    """A copy of such a state, spread as the parameters are."""
    by_index = dict(enumerate(parameters))
    tensors = {
        index: {
            name: as_is(value.clone(), by_index[int(index)])
            if isinstance(value, Tensor) and value.shape == by_index[int(index)].shape
            else copy.deepcopy(value)
            for name, value in entry.items()
        }
        for index, entry in state["state"].items()
    }
    return {"state": tensors, "param_groups": copy.deepcopy(state["param_groups"])}
