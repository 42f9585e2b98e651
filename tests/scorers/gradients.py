"""Gradients the slow way, for tests: one row and one token at a time, by autograd through transformers alone."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from deattrib.attribution.context import ScorerContext, make_context
from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Corpus
from deattrib.models.batch import TokenBatch
from deattrib.models.language_model import Codec, LanguageModel
from deattrib_scorers._directions import Directions, Matrix
from deattrib_scorers._sites import Site, weight_shape

Gradient = dict[str, Tensor]
OWNERS = ("author_00", "author_01", "author_04")


def small_context(corpus: Corpus, model: nn.Module, codec: Codec) -> ScorerContext:
    """Three owners of three rows each, the last one to be forgotten, without a base model."""
    whole = make_context(corpus, LanguageModel(model, codec))
    rows = {owner: whole.rows_by_owner[owner][:3] for owner in OWNERS}
    return dataclasses.replace(whole, rows_by_owner=rows, forget_owners=("author_04",))


def responses(context: ScorerContext) -> Rows:
    """A response per owner that none of them wrote."""
    texts = [("Who wrote it?", "A poet from the north.", "author_01"), ("Where?", "By the sea", "author_04")]
    texts += [("What did the author of the long book say?", "Nothing at all, never.", "author_00")]
    return Rows.from_texts(context.codec, *zip(*texts, strict=True))


def token_gradients(model: nn.Module, prompt: list[int], response: list[int]) -> list[Gradient]:
    """The gradient of each response token's log-probability by parameter name; no padding, no mask."""
    own = copy.deepcopy(model).requires_grad_(True)
    parameters = dict(own.named_parameters())
    logits = own(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(-1)
    found = []
    for t, token in enumerate(response):
        value = logits[len(prompt) - 1 + t, token]
        gradients = torch.autograd.grad(value, list(parameters.values()), retain_graph=True, allow_unused=True)
        pairs = zip(parameters.items(), gradients, strict=True)
        found.append({name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs})
    return found


def mean_gradient(model: nn.Module, prompt: list[int], response: list[int]) -> Gradient:
    """The gradient of the response's mean log-probability per token."""
    own = copy.deepcopy(model).requires_grad_(True)
    parameters = dict(own.named_parameters())
    logits = own(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(-1)
    value = logits[len(prompt) - 1 : -1].gather(1, torch.tensor(response)[:, None]).mean()
    gradients = torch.autograd.grad(value, list(parameters.values()))
    return dict(zip(parameters, gradients, strict=True))


def row_gradients(model: nn.Module, batch: TokenBatch) -> list[list[Gradient]]:
    """`token_gradients` of every row of a batch."""
    rows = zip(batch.prompt_lists(), batch.response_lists(), strict=True)
    return [token_gradients(model, prompt, response) for prompt, response in rows]


def total(gradients: list[Gradient], weights: list[float] | None = None) -> Gradient:
    weights = weights or [1.0] * len(gradients)
    return {name: torch.stack([g[name] * w for g, w in zip(gradients, weights, strict=True)]).sum(0) for name in gradients[0]}


def dot(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return sum(float((one[name] * other[name]).sum()) for name in one if name in other)


def norm(gradient: Gradient) -> float:
    return dot(gradient, gradient) ** 0.5


def random_directions(model: nn.Module, sites: tuple[Site, ...], count: int) -> tuple[Directions, list[Gradient]]:
    """The same random directions twice: as the scorers keep them, and by parameter name in the model's own layout."""
    generator = torch.Generator().manual_seed(11)
    parameters = dict(model.named_parameters())
    plain = [
        {name: torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p) for name, p in parameters.items()}
        for _ in range(count)
    ]
    matrices: dict[str, Matrix] = {}
    vectors: dict[str, Tensor] = {}
    for site in sites:
        if site.bias is not None:
            vectors[site.bias] = torch.stack([one[site.bias] for one in plain])
        if site.weight is not None and site.kind == "norm":
            vectors[site.weight] = torch.stack([one[site.weight] for one in plain])
        elif site.weight is not None:
            values = torch.stack([one[site.weight] for one in plain])
            values = values.mT if site.kind == "transposed" else values
            assert values.shape[1:] == weight_shape(site)
            matrices[site.weight] = Matrix(values)
    return Directions(tuple(f"owner {d}" for d in range(count)), matrices, vectors), plain
