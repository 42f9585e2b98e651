"""How fast the device of an estimate is: published rates of accelerators, or what this machine's processor does now."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from deattrib.errors import ConfigError, did_you_mean
from deattrib.runs.dry_cost import Work

REACHED: Final = 0.4  # share of the peak that training and scoring of a transformer usually reach
READ: Final = 0.6  # share of the memory's rate that decoding reaches


@dataclass(frozen=True, slots=True)
class Rate:
    """Peak of a device.

    Attributes:
        name: for the reader, with where the figures come from.
        flops: per second, dense.
        bytes: read from memory per second.
    """

    name: str
    flops: float
    bytes: float

    def seconds(self, work: Work) -> float:
        """Arithmetic and, for decoding, reading the weights, whichever is longer."""
        return max(work.flops / (self.flops * REACHED), work.read / (self.bytes * READ))


# name -> (TFLOP/s in bfloat16, TFLOP/s in float32, TB/s), dense, from the makers' data sheets.
DEVICES: Final[Mapping[str, tuple[float, float, float]]] = MappingProxyType(
    {
        "a100": (312, 19.5, 2.0),
        "h100": (989, 67, 3.35),
        "h200": (989, 67, 4.8),
        "l40s": (362, 91.6, 0.864),
        "rtx4090": (165, 82.6, 1.008),
    }
)


def rate_of(wish: str | None, *, half: bool) -> Rate:
    """The device of an estimate.

    Args:
        wish: a name of DEVICES, "cpu" (measured here, half a second), a number of TFLOP/s, or None: the GPU of this machine
            where it is a known one, else the processor.
        half: whether the arithmetic is in 16 bits.

    Raises:
        ConfigError: none of these.
    """
    if wish is None:
        wish = _own() or "cpu"
    word = wish.lower()
    if word == "cpu":
        return _measured(half)
    if word in DEVICES:
        fast, plain, memory = DEVICES[word]
        kind = "bfloat16" if half else "float32"
        flops = fast if half else plain
        return Rate(f"{word.upper()}: {flops:g} TFLOP/s in {kind}, {memory:g} TB/s (data sheet)", flops * 1e12, memory * 1e12)
    try:
        given = float(word)
    except ValueError:
        given = 0.0
    if not 0 < given < float("inf"):
        raise ConfigError(
            f"--on {wish!r}: expected a device or a number of TFLOP/s above 0.{did_you_mean(word, [*DEVICES, 'cpu'])}"
        )
    return Rate(f"{given:g} TFLOP/s as given; reading memory is not counted", given * 1e12, float("inf"))


def _own() -> str | None:
    import torch

    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name().lower().replace(" ", "")
    return next((known for known in DEVICES if known in name), None)


def _measured(half: bool) -> Rate:
    """Products of matrices as wide as a small model's, and a copy larger than the caches, each for a quarter of a second."""
    import torch

    dtype = torch.bfloat16 if half else torch.float32
    left, right = torch.ones(1024, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype)
    flops = _per_second(lambda: left @ right) * 2 * 1024**3
    source = torch.ones(32 * 2**20, dtype=torch.float32)
    target = torch.empty_like(source)
    copied = _per_second(lambda: target.copy_(source)) * 2 * source.numel() * 4
    kind = "bfloat16" if half else "float32"
    threads = f"{torch.get_num_threads()} thread" + ("s" if torch.get_num_threads() > 1 else "")
    rates = f"{flops / 1e9:.0f} GFLOP/s in {kind} matrix products, {copied / 1e9:.0f} GB/s"
    return Rate(f"this processor, {threads}: {rates} (measured now)", flops, copied)


def _per_second(function: Callable[[], object]) -> float:
    function()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < 0.25:
        function()
        count += 1
    return count / (time.perf_counter() - start)
