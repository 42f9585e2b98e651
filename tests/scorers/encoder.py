"""A sentence encoder small enough for tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch


def make_encoder(folder: Path, texts: Iterable[str]) -> str:
    """A BERT with random weights and a vocabulary of the texts' words, saved in `folder`: a bag of words, nearly."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = sorted({word.strip(".,;:'!?").lower() for text in texts for word in text.split()} - {""})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", *words]
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(vocabulary)}, do_lower_case=True)
    assert len(tokenizer) == len(vocabulary)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
        model = BertModel(BertConfig(vocab_size=len(tokenizer), **sizes))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
