"""A small Llama and its tokenizer, made from nothing: what the demo and small experiments run on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from deattrib.models.randomness import random_state_kept
from deattrib.models.recipes import ScratchSettings

END = "<|end|>"


def make_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """A byte-level BPE tokenizer trained on `texts`; any text can be encoded and comes back unchanged."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Sorted and deduplicated: the merges then depend on the set of texts only.
    core.train_from_iterator(sorted(set(texts)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END, pad_token=END, bos_token=END, clean_up_tokenization_spaces=False
    )


def model_config(settings: ScratchSettings, tokenizer: Any) -> Any:
    """The config of a Llama of these sizes for this tokenizer."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def make_model(settings: ScratchSettings, tokenizer: Any, *, seed: int) -> nn.Module:
    """A Llama with random weights that follow from `seed`; the global random state is left as it was."""
    from transformers import LlamaForCausalLM

    config = model_config(settings, tokenizer)
    with random_state_kept():
        torch.manual_seed(seed)
        model: nn.Module = LlamaForCausalLM(config)
    return model
