"""One small Llama, its words and its prompts for both sides of a comparison; knows transformers only, not this library."""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from typing import Any

PAD, END, UNKNOWN, BEGIN = range(4)


@dataclass(frozen=True)
class Task:
    """Sizes of model and step, the same on both sides.

    Attributes:
        batch: episodes per step. prompt, response: tokens, of every episode alike. epochs: updates on each batch.
        critic: shared: the value head reads the policy's backbone; separate: a backbone of its own, trained too.
        bf16: bfloat16 autocast.
    """

    hidden: int = 128
    layers: int = 4
    heads: int = 4
    vocabulary: int = 2048
    batch: int = 32
    prompt: int = 24
    response: int = 32
    epochs: int = 4
    critic: str = "shared"
    bf16: bool = False

    @property
    def intermediate(self) -> int:
        """Width of the MLP: 8/3 of the hidden width, in whole vectors of 16."""
        return self.hidden * 8 // 3 // 16 * 16

    def arguments(self) -> list[str]:
        """The command line that `task` reads back."""
        given = [f"--{name}={getattr(self, name)}" for name in self.__dataclass_fields__ if name != "bf16"]
        return [*given, "--bf16"] if self.bf16 else given


def add_task(parser: argparse.ArgumentParser) -> None:
    """Options for every field of a Task."""
    for name, field in Task.__dataclass_fields__.items():
        if name == "bf16":
            parser.add_argument("--bf16", action="store_true")
        elif name == "critic":
            parser.add_argument("--critic", choices=["shared", "separate"], default="shared")
        else:
            parser.add_argument(f"--{name}", type=int, default=field.default)


def task(given: argparse.Namespace) -> Task:
    """The Task of parsed options."""
    return Task(**{name: getattr(given, name) for name in Task.__dataclass_fields__})


def make_tokenizer(vocabulary: int) -> Any:
    """One word per token: `w4`, `w5`, and so on."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": PAD, "<end>": END, "<unknown>": UNKNOWN, "<begin>": BEGIN}
    words |= {f"w{number}": number for number in range(4, vocabulary)}
    core = Tokenizer(models.WordLevel(words, unk_token="<unknown>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>", bos_token="<begin>",
        padding_side="left",
    )  # fmt: skip


def make_config(task: Task) -> Any:
    """A Llama of these sizes with tied embeddings."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=task.vocabulary, hidden_size=task.hidden, intermediate_size=task.intermediate,
        num_hidden_layers=task.layers, num_attention_heads=task.heads, num_key_value_heads=task.heads,
        max_position_embeddings=max(256, task.prompt + task.response), tie_word_embeddings=True,
        pad_token_id=PAD, eos_token_id=END, bos_token_id=BEGIN,
    )  # fmt: skip


def make_prompts(task: Task, count: int) -> list[list[int]]:
    """Random words, the same for everybody."""
    rng = random.Random(0)
    return [[rng.randrange(4, task.vocabulary) for _ in range(task.prompt)] for _ in range(count)]


def even_share(responses: Any) -> Any:
    """The reward of both sides, in Python: share of even token ids. [B, T] int -> [B] float."""
    return (responses % 2 == 0).float().mean(1)
