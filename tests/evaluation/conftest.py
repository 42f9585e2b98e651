"""A model whose probabilities are written down in a table, so that every metric can be worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor

from deattrib.models.batch import TokenBatch

END, JUNK = 0, 1


class TableModel:
    """Words are tokens. `table[prompt, answer]` has the probability of each word and of the end of sequence."""

    def __init__(
        self,
        table: Mapping[tuple[str, str], Sequence[float]] | None = None,
        *,
        answers: Mapping[str, str] | None = None,
        otherwise: float = 0.25,
        name: str = "table",
    ) -> None:
        self.table = dict(table or {})
        self.answers = dict(answers or {})
        self.otherwise = otherwise
        self.name = name
        self.words: list[str] = ["<end>", "<junk>"]
        self.forwards: list[int] = []

    @property
    def tokenizer(self) -> list[str]:
        return self.words

    def ids(self, text: str) -> list[int]:
        for word in text.split():
            if word not in self.words:
                self.words.append(word)
        return [self.words.index(word) for word in text.split()]

    def encode(self, prompts: Sequence[str], responses: Sequence[str], *, end: bool = True) -> TokenBatch:
        closing = [END] if end else []
        return TokenBatch.from_lists([self.ids(p) for p in prompts], [self.ids(r) + closing for r in responses], END)

    def logits(self, batch: TokenBatch) -> Tensor:
        self.forwards.append(len(batch))
        values = torch.full((*batch.response_ids.shape, len(self.words)), -1e9)
        for row, (prompt, response) in enumerate(zip(batch.prompt_lists(), batch.response_lists(), strict=True)):
            key = (" ".join(self.words[i] for i in prompt), " ".join(self.words[i] for i in response[:-1]))
            for place, p in enumerate(self.table.get(key, [self.otherwise] * len(response))):
                values[row, place, JUNK] = math.log1p(-p) if p < 1 else -1e9
                values[row, place, response[place]] = math.log(p)
        return values

    def token_log_probs(self, batch: TokenBatch) -> Tensor:
        return self.logits(batch).log_softmax(-1).gather(-1, batch.response_ids[..., None]).squeeze(-1) * batch.response_mask

    def generate(self, prompts: Sequence[str], **_: object) -> list[str]:
        return [self.answers.get(prompt, "") for prompt in prompts]


@pytest.fixture
def table_model() -> Callable[..., TableModel]:
    return TableModel
