"""What training would take in memory per GPU at 7B and 70B parameters, on paper: the arithmetic of `deattrib run --dry-run`.

    python -m tests.benchmarks.memory_table          a table in Markdown, as docs/performance.md has it

Weights in bfloat16, adapters, their gradients and optimiser in float32, all weights trained in their own dtype; DDP holds
everything on every GPU, FSDP2 a share of weights, gradients and optimiser and one block put together. Nothing here was run.
"""

from __future__ import annotations

from dataclasses import dataclass

from deattrib.runs.dry_cost import ADAM, Arithmetic
from deattrib.runs.dry_model import Sizes

GPUS = 8
ROWS, PROMPT, RESPONSE = 32, 128, 384  # of a whole batch, tokens
RANK = 16
GIGABYTE = 1e9


@dataclass(frozen=True)
class Shape:
    """Published sizes of a Llama 2."""

    name: str
    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    vocabulary: int = 32000


SHAPES = (Shape("7B", 4096, 32, 32, 32, 11008), Shape("70B", 8192, 80, 64, 8, 28672))


def sizes_of(shape: Shape) -> Sizes:
    """Parameters from the shape: four projections of attention, three of the MLP, norms, embeddings and head apart."""
    width = shape.hidden // shape.heads
    key_value = shape.key_value_heads * width
    linear = [(shape.hidden, shape.hidden)] * 2 + [(shape.hidden, key_value)] * 2 + [(shape.hidden, shape.intermediate)] * 3
    block = sum(a * b for a, b in linear) + 2 * shape.hidden
    words = shape.vocabulary * shape.hidden
    return Sizes(
        source=shape.name, exact=True, parameters=shape.layers * block + shape.hidden + 2 * words, embedding=words, head=words,
        adapter=shape.layers * RANK * sum(a + b for a, b in linear), value_head=shape.hidden + 1, critic=0,
        hidden=shape.hidden, layers=shape.layers, heads=shape.heads, key_value_heads=shape.key_value_heads, head_width=width,
        intermediate=shape.intermediate, vocabulary=shape.vocabulary,
    )  # fmt: skip


def gigabytes(shape: Shape, *, full: bool, sharded: bool, recompute: bool) -> dict[str, float]:
    """Part -> gigabytes per GPU."""
    sizes = sizes_of(shape)
    cost = Arithmetic(sizes, 2, full=full, recompute=recompute)
    share = GPUS if sharded else 1
    trained = sizes.parameters if full else sizes.adapter
    values = (trained + sizes.value_head) * cost.trained_width
    block = cost.weights / shape.layers if sharded else 0
    parts = {
        "weights": cost.weights / share + block,
        # Training all weights needs the original beside them; an adapter does not.
        "frozen original": (cost.weights / share + block) if full else 0.0,
        "adapter and head": 0.0 if full else values / share,
        "gradients": values / share,
        "optimiser": ADAM * values / share,
        "activations": cost.activations(ROWS / GPUS, PROMPT + RESPONSE, RESPONSE),
    }
    return {name: value / GIGABYTE for name, value in parts.items()}


def table() -> str:
    """The table in Markdown."""
    names = list(gigabytes(SHAPES[0], full=False, sharded=False, recompute=False))
    lines = ["| model | trained | over 8 GPUs | checkpointing | " + " | ".join(names) + " | sum, GB per GPU |"]
    lines.append("|" + "---|" * (len(names) + 5))
    for shape in SHAPES:
        for full in (False, True):
            for sharded in (False, True):
                for recompute in (False, True):
                    parts = gigabytes(shape, full=full, sharded=sharded, recompute=recompute)
                    trained, over = "all weights" if full else "LoRA", "FSDP2" if sharded else "DDP"
                    cells = [shape.name, trained, over, "yes" if recompute else "no"]
                    cells += [f"{value:.1f}" for value in parts.values()]
                    lines.append("| " + " | ".join([*cells, f"{sum(parts.values()):.0f}"]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print."""
    print(table())


if __name__ == "__main__":
    main()
