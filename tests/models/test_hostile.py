"""Tokenizers and models that lack what others have."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from torch import nn

from deattrib.corpus.types import Corpus
from deattrib.errors import ModelError
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.loading import check_vocabulary
from deattrib.models.training import answer_loss


def test_a_tokenizer_without_padding_token_or_chat_template_is_enough(
    tiny_tokenizer: Any, tiny_llama: nn.Module, tiny_corpus: Corpus
) -> None:
    """The end token pads, and losses are those of a tokenizer with a padding token of its own."""
    bare = copy.deepcopy(tiny_tokenizer)
    bare.pad_token = None
    bare.chat_template = None
    codec = Codec(bare)
    assert codec.pad_id == codec.eos_id and not codec.chat and codec.template == "{prompt}\n"
    rows = tiny_corpus.train[:5]
    batch = codec.encode([row.prompt for row in rows], [row.response for row in rows])
    padded = Codec(tiny_tokenizer).encode([row.prompt for row in rows], [row.response for row in rows])
    assert float(answer_loss(tiny_llama, batch)) == pytest.approx(float(answer_loss(tiny_llama, padded)), rel=1e-5)
    texts = LanguageModel(tiny_llama, codec).generate([row.prompt for row in rows], max_new_tokens=4)
    assert len(texts) == 5


def test_a_vocabulary_that_does_not_fit_is_refused(tiny_tokenizer: Any, tiny_llama: nn.Module) -> None:
    large = copy.deepcopy(tiny_tokenizer)
    size = tiny_llama.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    large.add_tokens([f"<extra {number}>" for number in range(size)])
    with pytest.raises(ModelError, match=rf"The tokenizer has {len(large)} tokens, the model 'm' only {size}"):
        check_vocabulary(tiny_llama, Codec(large), "m")
    check_vocabulary(tiny_llama, Codec(tiny_tokenizer), "m")


def test_tied_weights_are_trained_and_read_as_one(tiny_llama: nn.Module, tiny_codec: Codec, tiny_corpus: Corpus) -> None:
    from deattrib.models.policy import Policy
    from deattrib.models.recipes import PolicySettings

    inner: Any = tiny_llama
    inner.config.tie_word_embeddings = True
    inner.lm_head.weight = inner.get_input_embeddings().weight
    policy = Policy(tiny_llama, tiny_codec, PolicySettings(adapter="full"), seed=0)
    merged: Any = policy.language_model().model
    assert merged.lm_head.weight is merged.get_input_embeddings().weight
    assert policy.backbone.lm_head.weight is policy.backbone.get_input_embeddings().weight
    rows = tiny_corpus.train[:2]
    batch = tiny_codec.encode([row.prompt for row in rows], [row.response for row in rows])
    assert float(answer_loss(merged, batch)) == float(answer_loss(policy.backbone, batch))
