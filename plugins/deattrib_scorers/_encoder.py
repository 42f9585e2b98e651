"""A frozen sentence encoder with a linear head (the paper's alternative, section 5.3). One pass per prefix."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from deattrib import Rows, ScorerContext


class EncoderBackend:
    def __init__(self, params: Any, context: ScorerContext) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.params = params
        self.context = context
        self.tokenizer = AutoTokenizer.from_pretrained(params.backbone)
        self.encoder = AutoModel.from_pretrained(params.backbone).eval().requires_grad_(False).to(context.device)

    @torch.no_grad()
    def _embed(self, texts: list[str]) -> Tensor:
        """Mean-pooled, normalised: [N, H]."""
        parts = []
        for start in range(0, len(texts), 64):
            encoded = self.tokenizer(
                texts[start : start + 64], padding=True, truncation=True, max_length=256, return_tensors="pt"
            ).to(self.context.device)
            hidden = self.encoder(**encoded).last_hidden_state.float()
            mask = encoded["attention_mask"][..., None]
            parts.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1).clamp(min=1), dim=-1).cpu())
        return torch.cat(parts)

    def _texts(self, rows: Rows, keep: Tensor, ends: Tensor) -> list[str]:
        texts = []
        for ids, mask, stops in zip(rows.batch.response_ids.tolist(), keep.tolist(), ends.tolist(), strict=True):
            for stop in stops:
                texts.append(self.context.codec.decode([i for i, kept in zip(ids[:stop], mask[:stop], strict=True) if kept]))
        return texts

    def fit(self, rows: Rows, keep: Tensor, labels: Tensor, classes: int) -> None:
        from sklearn.linear_model import LogisticRegression

        embedded = self._embed(self._texts(rows, keep, rows.batch.response_lengths[:, None]))
        self.head = LogisticRegression(max_iter=1000, C=10.0, random_state=self.context.seed).fit(
            embedded.numpy(), labels.numpy()
        )
        self.classes = classes

    def log_probs(self, rows: Rows, keep: Tensor, ends: Tensor) -> Tensor:
        texts = self._texts(rows, keep, ends)
        unique = {text: position for position, text in enumerate(dict.fromkeys(texts))}
        known = np.log(np.clip(self.head.predict_proba(self._embed(list(unique)).numpy()), 1e-12, 1))
        full = torch.full((len(unique), self.classes), float(np.log(1e-12)))
        full[:, torch.as_tensor(self.head.classes_)] = torch.as_tensor(known, dtype=torch.float32)
        return full[[unique[text] for text in texts]].view(len(rows), ends.shape[1], self.classes)
