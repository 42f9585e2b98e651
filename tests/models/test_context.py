"""Rows that do not fit a model's context are refused before anything is trained."""

from __future__ import annotations

import pytest
from torch import nn

from deattrib.corpus.types import Example
from deattrib.errors import ModelError
from deattrib.models.context import check_context
from deattrib.models.language_model import Codec


def row(words: int) -> Example:
    return Example("ann", "Where is Ann?", "in " * words)


def test_the_first_row_that_does_not_fit_is_named(tiny_model: nn.Module, tiny_codec: Codec) -> None:
    assert tiny_model.config.max_position_embeddings == 128
    match = r"2 of 3 rows do not fit .*128 tokens; the first has \d+ .*'ann', prompt 'Where is Ann"
    with pytest.raises(ModelError, match=match) as caught:
        check_context(tiny_model, tiny_codec, [row(3), row(300), row(400)])
    size = len(tiny_codec.prompt("Where is Ann?")) + len(tiny_codec.response("in " * 300))
    assert f"the first has {size} with its answer" in str(caught.value)


def test_the_limit_itself_fits(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    size = len(tiny_codec.prompt("Where is Ann?")) + len(tiny_codec.response("in " * 60))
    tiny_llama.config.max_position_embeddings = size
    check_context(tiny_llama, tiny_codec, [row(60)])
    tiny_llama.config.max_position_embeddings = size - 1
    with pytest.raises(ModelError, match="1 of 1 rows"):
        check_context(tiny_llama, tiny_codec, [row(60)])


def test_a_model_without_a_limit_takes_what_another_refuses(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    with pytest.raises(ModelError, match="1 of 1 rows"):
        check_context(tiny_llama, tiny_codec, [row(5000)])
    check_context(nn.Linear(1, 1), tiny_codec, [row(5000)])  # no config, so no limit: nothing is raised


def test_what_is_generated_has_to_fit_too(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    prompt = len(tiny_codec.prompt("Where is Ann?"))
    check_context(tiny_llama, tiny_codec, [row(3)], generated=128 - prompt)
    with pytest.raises(ModelError, match=r"1 of 1 rows .*or the \d+ that it may generate.*lower evaluation.max_new_tokens"):
        check_context(tiny_llama, tiny_codec, [row(3)], generated=129 - prompt)
