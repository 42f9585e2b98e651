"""Where a model uses its parameters: the modules that gradient-linear scorers hook into.

Every such module is affine in its own parameters, which is all that is needed to push a tangent through it or to read
a per-row gradient off it: linear layers (also GPT-2's transposed `Conv1D`), embeddings, and norms. A parameter that is
used twice (an embedding tied to the head) has two sites under one name, so its gradient is the sum over both.

Names are those of the bare model: the same parameter inside a policy, wrapped by peft, has the same name here.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal

import torch
from torch import Tensor, nn

from deattrib import ScorerError

Kind = Literal["linear", "transposed", "embedding", "norm"]


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """One module and the names of its selected parameters (None: not selected, or not there).

    A weight is used in the orientation [out, in] for linear layers of either layout; [ids, width] for embeddings.
    """

    module: nn.Module
    kind: Kind
    weight: str | None
    bias: str | None


def bare_name(name: str) -> str:
    """The name that a parameter or module has without peft around it."""
    return name.removeprefix("base_model.model.").replace(".base_layer", "")


def find_sites(model: nn.Module, layers: Sequence[str]) -> tuple[Site, ...]:
    """The sites of all parameters whose name matches one of the patterns (as file names are matched).

    Raises:
        ScorerError: a pattern matches nothing.
    """
    names: dict[int, str] = {}
    sites: list[Site] = []
    skipped: list[str] = []
    for path, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if not own or ".lora_" in path:
            continue
        kind = _kind(module)
        for key, parameter in own.items():
            names.setdefault(id(parameter), bare_name(f"{path}.{key}"))
        chosen = {key: names[id(value)] for key, value in own.items() if _matches(names[id(value)], layers)}
        if chosen and kind is None:
            skipped += chosen.values()
        elif chosen and kind is not None:
            sites.append(Site(module, kind, chosen.get("weight"), chosen.get("bias")))
    if skipped:
        warnings.warn(
            f"Gradients leave out {len(skipped)} parameters of modules that are no plain linear layer, embedding or norm "
            f"(first: {skipped[0]!r}).",
            stacklevel=2,
        )
    for pattern in layers:
        if not any(fnmatch(name, pattern) for name in names.values()):
            raise ScorerError(f"layers: {pattern!r} matches no parameter; names look like {sorted(set(names.values()))[0]!r}.")
    if not sites:
        raise ScorerError(f"layers {list(layers)} leave no linear layer, embedding or norm to take gradients of.")
    return tuple(sites)


def weight_shape(site: Site) -> tuple[int, int]:
    """(out, in) of a matrix, (ids, width) of an embedding."""
    rows, columns = (int(size) for size in _weight(site.module).shape)
    return (columns, rows) if site.kind == "transposed" else (rows, columns)


def unscaled(module: nn.Module, inputs: Tensor, outputs: Tensor | None = None) -> Tensor:
    """What a norm multiplies with its weight, x̂: [B, T, H]. From the module itself, so that every variant is right.

    The output is affine in the weight, elementwise; also where the module multiplies with 1 + weight. Where it is just
    weight * x̂ and no weight is close to 0, `outputs` (what the module gave for these inputs) save a pass.
    """
    twin = copy.copy(module)  # its own table of parameters; `forward` itself, so that hooks are not called again
    own = dict(module.named_parameters(recurse=False))
    twin._parameters = {**own, "weight": torch.zeros_like(own["weight"])}  # type: ignore[dict-item]
    shift: Tensor = twin.forward(inputs[:1, :1])
    size = own["weight"].detach().abs()
    if outputs is not None and not shift.any() and size.min() > 1e-2 * size.max():
        return outputs.detach() / own["weight"].detach()
    if shift.any():  # a bias, or 1 + weight
        shift = twin.forward(inputs)
    twin._parameters = {**own, "weight": torch.ones_like(own["weight"])}  # type: ignore[dict-item]
    scaled: Tensor = twin.forward(inputs)
    return (scaled - shift).detach() if shift.any() else scaled.detach()


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def _kind(module: nn.Module) -> Kind | None:
    weight = getattr(module, "weight", None)
    forward = getattr(type(module), "forward", None)  # a subclass that scales or quantises is another function
    if isinstance(module, nn.Linear) and forward is nn.Linear.forward:
        return "linear"
    if isinstance(module, nn.Embedding) and forward is nn.Embedding.forward:
        return "embedding"
    if isinstance(weight, Tensor) and weight.dim() == 2 and type(module).__name__ == "Conv1D":
        return "transposed"
    if isinstance(weight, Tensor) and weight.dim() == 1 and "Norm" in type(module).__name__:
        return "norm"
    return None


def _matches(name: str, layers: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in layers)
