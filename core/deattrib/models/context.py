"""Whether rows fit into a model's context; found before anything is trained, and told with the row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from deattrib.corpus.types import Example
from deattrib.errors import ModelError
from deattrib.models.language_model import Codec

SPECIAL = 16  # tokens that a tokenizer may add around a text


def check_context(model: nn.Module, codec: Codec, rows: Sequence[Example], *, generated: int = 0) -> None:
    """Raises ModelError naming the first row that does not fit with its answer, and how many do not.

    Args:
        generated: `evaluation.max_new_tokens`, where the model is going to answer by itself; the longer of the two must fit.

    A prompt over `max_prompt_tokens` is refused by the codec itself.
    """
    config: Any = getattr(model, "config", None)
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int):
        return
    # No tokenizer makes more tokens than there are bytes, so most rows need not be cut into tokens at all.
    room = most - SPECIAL - len(codec.template.encode())
    long = [row for row in rows if codec.chat or _bytes(row.prompt) + max(_bytes(row.response), generated) > room]
    sizes = [(len(codec.prompt(row.prompt)) + max(len(codec.response(row.response)), generated), row) for row in long]
    beyond = [(size, row) for size, row in sizes if size > most]
    if beyond:
        size, row = beyond[0]
        raise ModelError(
            f"{len(beyond)} of {len(rows)} rows do not fit the model's context of {most} tokens; the first has {size} with its "
            f"answer{f' or the {generated} that it may generate' if generated else ''}: owner {row.owner[:80]!r}, prompt "
            f"{row.prompt[:80]!r}. Shorten them or leave them out{', or lower evaluation.max_new_tokens' if generated else ''}."
        )


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
