"""What a run costs, from shapes alone: FLOPs and bytes of a transformer's forward, backward and decoding.

FLOPs count a multiplication with its addition as two, for all matrix products and for attention over the whole padded
square (as a fused kernel without causal skipping does); norms and element-wise work are left out. Saved activations are
those of a Llama-like block under LoRA. Both are checked in the tests against torch's own counters on a real policy.
"""

from __future__ import annotations

from dataclasses import dataclass

from deattrib.models.wide import AT_ONCE
from deattrib.runs.dry_model import Sizes

ADAM = 2  # moments per trained value
LOGIT_COPIES = 4  # float32 copies of the logits at their peak: as computed, tempered, log-softmax, gradient
WIDE_COPIES = 2  # in the model's own dtype, where the others are made piece by piece: as computed, gradient
PIECES = 4  # of AT_ONCE bytes


@dataclass(frozen=True, slots=True)
class Work:
    """FLOPs, and how many bytes a decoder reads one token at a time; sums of pieces of work add up."""

    flops: float = 0.0
    read: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.read + other.read)

    def __mul__(self, times: float) -> Work:
        return Work(self.flops * times, self.read * times)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What passes over one model cost: operations, bytes read, bytes held.

    Attributes:
        sizes: of the model.
        width: bytes of one frozen weight.
        mixed: bfloat16 autocast over float32 weights.
        full: the policy trains all weights.
        recompute: a block's activations are computed again in the backward pass.
    """

    sizes: Sizes
    width: int
    mixed: bool = False
    full: bool = False
    recompute: bool = False

    # -- work ---------------------------------------------------------------------------------------------------------
    def forward(self, rows: float, prompt: float, response: float, *, adapter: bool = False) -> Work:
        """One pass over rows of so many tokens; the head is applied at response positions only."""
        sizes = self.sizes
        tokens = rows * (prompt + response)
        body = sizes.body + (sizes.adapter if adapter and not self.full else 0)
        attention = 4 * sizes.layers * sizes.heads * sizes.head_width * (prompt + response) * tokens
        return Work(2 * body * tokens + 2 * sizes.head * rows * response + attention)

    def trained(self, rows: float, prompt: float, response: float) -> Work:
        """Forward and backward of the policy.

        Through frozen weights the gradient of the inputs costs a second forward, and attention's two; the adapter's own
        gradients cost as much again, a whole backbone's another forward.
        """
        sizes = self.sizes
        tokens = rows * (prompt + response)
        once = self.forward(rows, prompt, response, adapter=True)
        attention = Work(4 * sizes.layers * sizes.heads * sizes.head_width * (prompt + response) * tokens)
        own = Work(2 * (sizes.body + sizes.head if self.full else sizes.adapter) * tokens)
        return once * (3 if self.recompute else 2) + attention + own

    def decoding(self, rows: float, prompt: float, response: float, *, batch: float) -> Work:
        """Sampling with a cache: the prompt at once, then a token at a time, for each of which all weights are read."""
        fed = self.forward(rows, prompt, 1)
        flops = 2 * (self.sizes.body + self.sizes.head) * rows * response
        passes = -(-rows // batch) * response
        return fed + Work(flops, passes * self.sizes.parameters * self.width)

    # -- memory -------------------------------------------------------------------------------------------------------
    @property
    def weights(self) -> int:
        """Bytes of one copy of the frozen weights."""
        return self.sizes.parameters * self.width

    @property
    def trained_width(self) -> int:
        """Bytes of one trained value: adapters are kept in float32 whatever the backbone's dtype, a backbone in its own."""
        return self.width if self.full else 4

    def activations(self, rows: float, tokens: float, responses: float) -> float:
        """Bytes kept for the backward pass of one batch, logits and their copies included.

        A block keeps, in elements per token: the inputs and outputs of its two norms (4 hidden), queries, keys, values and
        attention's output (4 times the heads' width, keys and values repeated per head), that output once more where the
        projection takes it (1), and of the MLP the gate before and after its activation, the other half and their product
        (4 intermediate). In 16 bits, norms and adapters take float32 copies of what they are given beside that.
        """
        sizes = self.sizes
        attention = sizes.heads * sizes.head_width
        elements = 4 * sizes.hidden + 5 * attention + 4 * sizes.intermediate
        half = self.mixed or self.width == 2
        copies = 4 * (2 * sizes.hidden + 5 * sizes.hidden + attention + sizes.intermediate) if half else 0
        per_token = elements * (2 if half else 4) + copies
        kept = sizes.layers * per_token
        if self.recompute:  # what goes into each block, and one block's own
            kept = sizes.layers * sizes.hidden * (2 if half else 4) + per_token
        return rows * tokens * kept + self._logits(responses * rows, half)

    def _logits(self, positions: float, half: bool) -> float:
        numbers = positions * self.sizes.vocabulary
        if numbers * 4 > AT_ONCE:
            return numbers * WIDE_COPIES * (2 if half else 4) + PIECES * AT_ONCE
        return numbers * ((2 if half else 0) + 4 * LOGIT_COPIES)

    def cache(self, rows: float, tokens: float) -> float:
        """Bytes of keys and values of one batch being decoded."""
        sizes = self.sizes
        return 2 * rows * tokens * sizes.layers * sizes.key_value_heads * sizes.head_width * self.width
