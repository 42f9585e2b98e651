"""The n-gram classifier: training the n-grams that occur is training all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from deattrib.attribution.scorer import Rows
from deattrib.models.language_model import Codec
from deattrib_scorers._ngram import BUCKETS, NgramBackend, _features
from deattrib_scorers.classifier import Classifier


def dense(params: Any, features: Tensor, lengths: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The whole table trained, whether its rows occur or not; each logit from its own sum."""
    generator = torch.Generator().manual_seed(0)
    table, bias = torch.zeros(BUCKETS + 1, classes, requires_grad=True), torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.Adam([table, bias], lr=0.05)
    loss_of = nn.CrossEntropyLoss(label_smoothing=params.label_smoothing)

    def logits(row: int, end: int) -> Tensor:
        there = features[row, : end + 1]
        there = there[there != BUCKETS]
        return table[there].sum(0) / len(there) ** 0.5 + bias

    for _ in range(params.epochs):
        for index in torch.randperm(len(labels), generator=generator).split(params.batch_size * 8):
            last = lengths[index] - 1
            cut = (torch.rand(len(index), generator=generator) * (last + 1)).long()
            loss = sum(
                0.5
                * loss_of(torch.stack([logits(int(i), int(end)) for i, end in zip(index, ends, strict=True)]), labels[index])
                for ends in (last, cut)
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return table.detach()


def test_only_what_occurs_is_trained(tiny_codec: Codec) -> None:
    texts = ["the old town", "a new town by the sea", "old sea", "the new town"]
    rows = Rows.from_texts(tiny_codec, ["?"] * 4, texts, ["a", "b", "a", "b"])
    labels, keep = torch.tensor([0, 1, 0, 1]), rows.batch.response_mask.cpu()
    params = Classifier.Params(backbone="ngram", epochs=6)
    fitted = NgramBackend(params, seed=0)
    fitted.fit(rows, keep, labels, 2)
    features = _features(rows, keep)
    expected = dense(params, features, rows.batch.response_lengths, labels, 2)
    assert torch.allclose(fitted.table, expected, atol=1e-5)
    assert set(fitted.table.abs().sum(1).nonzero().flatten().tolist()) <= set(features.flatten().tolist()) - {BUCKETS}
    assert fitted.table.abs().sum() > 0.1


def test_after_nothing_the_bias_speaks(tiny_codec: Codec) -> None:
    rows = Rows.from_texts(tiny_codec, ["?"] * 2, ["the old town", "a new town"], ["a", "b"])
    fitted = NgramBackend(Classifier.Params(backbone="ngram", epochs=2), seed=0)
    keep = rows.batch.response_mask.cpu()
    fitted.fit(rows, keep, torch.tensor([0, 1]), 2)
    found = fitted.log_probs(rows, keep, torch.zeros(2, 1, dtype=torch.int64))
    assert torch.allclose(found[:, 0], torch.log_softmax(fitted.bias, -1).expand(2, 2))
