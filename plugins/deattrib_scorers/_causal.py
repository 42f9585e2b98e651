"""A small causal LM with LoRA and a classification head: the paper's classifier (section 4.1, appendix E.1).

It shares the policy's tokenizer, so the head can be read after every token of one pass: all prefixes for the price of
one response. Kept tokens are fed without a prompt, after one begin token. A fitted classifier is kept in the context's
cache, named by a hash of everything it was fitted from.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from deattrib import Rows, ScorerContext, TokenBatch, fingerprint, load_language_model, response_logits
from deattrib_scorers._code import code_digest, settings_of


class CausalBackend:
    def __init__(self, params: Any, context: ScorerContext) -> None:
        self.params = params
        self.context = context

    def _model(self) -> nn.Module:
        if self.params.model is not None:
            return load_language_model(self.params.model, codec=self.context.codec, device=self.context.device).clone()
        return (self.context.base or self.context.original).clone()

    def fit(self, rows: Rows, keep: Tensor, labels: Tensor, classes: int) -> None:
        from peft import LoraConfig, get_peft_model

        device = self.context.device
        generator = torch.Generator().manual_seed(self.context.seed)
        torch.manual_seed(self.context.seed)  # adapter initialisation and dropout; the caller restores the state
        config = LoraConfig(
            r=self.params.rank,
            lora_alpha=self.params.alpha,
            lora_dropout=self.params.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        self.model: Any = get_peft_model(self._model(), config)
        self.head = nn.Linear(self.model.config.get_text_config().hidden_size, classes, device=device)
        ids, counts = _compact(rows, keep)
        content = {
            "rows": [ids, labels.tolist(), classes],
            "params": self.params.model_dump(mode="json"),
            "model": [fingerprint(self.model), settings_of(self.model)],  # with its fresh adapter, which follows from the seed
            "code": code_digest(),
        }

        def train() -> dict[str, Tensor]:
            self._train(ids, counts, labels, generator)
            return self._tensors()

        fitted = self.context.keep("classifier", content, train)
        for name, value in self._tensors().items():
            value.copy_(fitted[name])
        self.model.eval().requires_grad_(False)
        self.head.requires_grad_(False)

    def _train(self, ids: list[list[int]], counts: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        device = self.context.device
        trained = [value for value in self.model.parameters() if value.requires_grad] + list(self.head.parameters())
        optimiser = torch.optim.AdamW(trained, lr=self.params.learning_rate or 1e-3, weight_decay=0.0)
        criterion = nn.CrossEntropyLoss(label_smoothing=self.params.label_smoothing)
        self.model.train()
        for _ in range(self.params.epochs):
            for index in torch.randperm(len(labels), generator=generator).split(self.params.batch_size):
                logits = self._read([ids[i] for i in index.tolist()])
                target = labels[index].to(device)
                loss = criterion(logits[torch.arange(len(index)), counts[index]], target)
                if self.params.prefixes:
                    cut = (torch.rand(len(index), generator=generator) * counts[index]).long() + 1
                    prefix = logits[torch.arange(len(index)), cut.minimum(counts[index])]
                    loss = 0.5 * loss + 0.5 * criterion(prefix, target)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()

    def _tensors(self) -> dict[str, Tensor]:
        adapter = {name: value.data for name, value in self.model.named_parameters() if ".lora_" in name}
        return adapter | {f"head.{name}": value.data for name, value in self.head.named_parameters()}

    def _read(self, ids: list[list[int]]) -> Tensor:
        """[B, T + 1, classes]: logits after 0, 1, ... T kept tokens."""
        codec = self.context.codec
        batch = TokenBatch.from_lists([[codec.eos_id]] * len(ids), [[*row, codec.eos_id] for row in ids], codec.pad_id)
        _, hidden = response_logits(self.model, batch.to(self.context.device))
        logits: Tensor = self.head(hidden.float())
        return logits

    @torch.no_grad()
    def log_probs(self, rows: Rows, keep: Tensor, ends: Tensor) -> Tensor:
        ids, _ = _compact(rows, keep)
        parts = []
        kept = torch.cat([torch.zeros(len(keep), 1, dtype=torch.int64), keep.long().cumsum(1)], 1).gather(1, ends)
        for start in range(0, len(ids), 64):
            logits = self._read(ids[start : start + 64]).cpu()
            index = kept[start : start + 64, :, None].expand(-1, -1, logits.shape[-1])
            parts.append(torch.log_softmax(logits.gather(1, index), -1))
        return torch.cat(parts)


def _compact(rows: Rows, keep: Tensor) -> tuple[list[list[int]], Tensor]:
    """Kept ids per row, and how many."""
    ids = [
        [token for token, kept in zip(row, mask, strict=True) if kept]
        for row, mask in zip(rows.batch.response_ids.tolist(), keep.tolist(), strict=True)
    ]
    return ids, keep.sum(1)
