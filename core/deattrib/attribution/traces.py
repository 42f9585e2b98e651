"""What a scorer call must not leave behind: a snapshot before, a comparison after, and what can be put back is.

Tensors are compared by storage address and version counter, which sees every ordinary write, and by a few of their
values, which sees writes through `.data` (they bypass the counter) without reading whole models.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SAMPLED_VALUES = 64  # per tensor


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """One piece of global state: how to read it, how to put it back, and its value before the call."""

    what: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    before: Any

    def changed(self) -> bool:
        return not _same(self.read(), self.before)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def random_states() -> list[Setting]:
    """The global random generators: torch on every device in use, Python, numpy."""
    sources: list[tuple[str, Callable[[], Any], Callable[[Any], object]]] = [
        ("torch's global random state", torch.get_rng_state, torch.set_rng_state),
        ("Python's random state", random.getstate, random.setstate),
        ("numpy's global random state", np.random.get_state, np.random.set_state),
    ]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        sources.append(("CUDA's random state", torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all))
    return [Setting(what, read, write, read()) for what, read, write in sources]


def torch_settings() -> list[Setting]:
    """Global switches of torch that change what others compute."""
    sources: list[tuple[str, Callable[[], Any], Callable[[Any], object]]] = [
        ("the grad mode (torch.set_grad_enabled)", torch.is_grad_enabled, torch.set_grad_enabled),
        ("the deterministic mode", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        ("the default dtype", torch.get_default_dtype, torch.set_default_dtype),
        ("the number of threads", torch.get_num_threads, torch.set_num_threads),
        ("the matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        ("the default device", _default_device, torch.set_default_device),
    ]
    return [Setting(what, read, write, read()) for what, read, write in sources]


def _default_device() -> torch.device | None:
    """None where nobody has set one, and setting None takes it off again."""
    device = torch.get_default_device()
    return None if device.type == "cpu" else device


def process_settings() -> list[Setting]:
    """What a run needs of its process: the folder that paths are relative to, and who answers signals."""
    found: list[Setting] = []
    if (here := _working_directory()) is not None:
        found.append(Setting("the working directory", _working_directory, os.chdir, here))
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            if before is not None:  # one that was not set from Python cannot be put back from Python
                read, write = partial(signal.getsignal, number), partial(signal.signal, number)
                found.append(Setting(f"the handler of {number.name}", read, write, before))
    return found


def _working_directory() -> str | None:
    """None where it has been removed."""
    with contextlib.suppress(OSError):
        return os.getcwd()
    return None


def seed_everything(seed: int) -> None:
    """Set every global generator."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _mark(tensor: Tensor) -> tuple[int, int]:
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local.data_ptr(), -1 if local.is_inference() else local._version


def _sample(tensors: Sequence[Tensor]) -> list[Tensor]:
    """A few values of every tensor, bit for bit, one vector per device."""
    parts: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        flat = (tensor.to_local() if hasattr(tensor, "to_local") else tensor).detach().reshape(-1)
        if flat.numel() and not flat.is_complex():
            parts.setdefault(flat.device, []).append(flat[:: -(-flat.numel() // SAMPLED_VALUES)].float())
    return [torch.cat(values).view(torch.int32) for values in parts.values()]


class ModuleWatch:
    """A module that must come out of a call as it went in."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.tensors = dict([*module.named_parameters(), *module.named_buffers()])
        self.marks = {name: _mark(tensor) for name, tensor in self.tensors.items()}
        self.trained = {name: tensor.requires_grad for name, tensor in self.tensors.items()}
        self.grads = {name: None if (grad := tensor.grad) is None else _mark(grad) for name, tensor in self.tensors.items()}
        self.modes = {name: part.training for name, part in module.named_modules()}
        self.hooks = {name: _hooks(part) for name, part in module.named_modules()}
        self.sample = _sample(list(self.tensors.values()))

    def touched(self, name: str) -> tuple[list[str], bool]:
        """One phrase per change since it was looked at, and whether values changed; what else was changed is put back."""
        lost = self.values_changed()
        return [f"it touched the {name}: {text}" for text in [*lost, *self.restore()]], bool(lost)

    def values_changed(self) -> list[str]:
        """What was written to and cannot be put back."""
        now = dict([*self.module.named_parameters(), *self.module.named_buffers()])
        if list(now) != list(self.tensors):
            names = sorted(set(now) ^ set(self.tensors)) or list(now)
            return [f"its tensors are not the same as before ({', '.join(names[:3])})"]
        written = [name for name in now if _mark(now[name]) != self.marks[name]]
        if written:
            return [f"{_few(written)} written to"]
        return [] if _same(_sample(list(now.values())), self.sample) else ["its values were written to past autograd (.data)"]

    def restore(self) -> list[str]:
        """What else was changed; puts back modes, requires_grad and gradients that were not there."""
        found: list[str] = []
        if trained := [name for name, tensor in self.tensors.items() if tensor.requires_grad != self.trained[name]]:
            found.append(f"requires_grad of {_few(trained)} changed")
            for name in trained:
                self.tensors[name].requires_grad_(self.trained[name])
        if grads := [name for name, tensor in self.tensors.items() if self._grad_changed(name, tensor)]:
            found.append(f"the gradient of {_few(grads)} changed")
            for name in grads:
                if self.grads[name] is None:
                    self.tensors[name].grad = None
        parts = dict(self.module.named_modules())
        if modes := [name for name, part in parts.items() if part.training != self.modes.get(name, part.training)]:
            found.append(f"train/eval mode of {_few(modes)} changed")
            for name in modes:
                parts[name].training = self.modes[name]
        if hooks := [name for name, part in parts.items() if _hooks(part) != self.hooks.get(name, 0)]:
            found.append(f"hooks were left on or taken from {_few(hooks)}")
        return found

    def _grad_changed(self, name: str, tensor: Tensor) -> bool:
        return (None if tensor.grad is None else _mark(tensor.grad)) != self.grads[name]


def _hooks(module: nn.Module) -> int:
    return sum(len(getattr(module, name)) for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"))


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name or "the module itself") for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


class Snapshot:
    """Everything outside a scorer that a call must leave alone.

    Args:
        watch: the policy; None where there is none.
        tensors: the tensors handed to the scorer, by name; put back if written to.
    """

    def __init__(self, watch: nn.Module | None, tensors: dict[str, Tensor]) -> None:
        self.random = random_states()
        self.settings = [*torch_settings(), *process_settings()]
        self.module = ModuleWatch(watch) if watch is not None else None
        self.tensors = tensors
        self.copies = {name: tensor.clone() for name, tensor in tensors.items()}

    def put_back(self, *, may_use_random: bool) -> tuple[list[str], bool]:
        """Compare, put back what can be, and say what was changed.

        Returns:
            one phrase per change, and whether the values of the watched module changed (they cannot be put back).
        """
        found: list[str] = []
        for setting in [*self.settings, *self.random]:  # first the device that new tensors go to
            if setting.changed():
                setting.write(setting.before)
                if setting in self.settings or not may_use_random:
                    found.append(f"it changed {setting.what}")
        for name, tensor in self.tensors.items():
            if not torch.equal(tensor, self.copies[name]):
                found.append(f"it wrote into {name}")
                tensor.copy_(self.copies[name])
        touched, lost = self.module.touched("policy") if self.module else ([], False)
        return found + touched, lost
