"""Attribution by a classifier over owners: DA_c(i, y) = p(i | y).

The default of Lu et al. 2026 (arXiv 2605.30919, section 4.1), called the paper below.

Trained once on the owners' *answers* (never the questions, which name the owner), then frozen. Three backbones:

- `ngram` (default): hashed token n-grams with a linear softmax; every prefix is a running sum.
- `causal`: a small causal LM with LoRA and a classification head, as in the paper (r 16, alpha 32, dropout 0.1). It
  reads a response once and gives p(i | y[:t]) at every t.
- any model id or folder: a frozen sentence encoder with a linear head; pays one pass per prefix.

Deviations: names of owners are left out of the text (they would give the owner away without any of its data),
and the first two are trained on prefixes too, because prefixes are what the
reward asks about. The `paper` preset switches both off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from pydantic import Field
from torch import Tensor

from deattrib import Rows, Scorer, ScorerContext, ScorerError, hookimpl
from deattrib_scorers._answers import answers_alone, kept_tokens


class Backend(Protocol):
    """Fits once; then log p(owner | prefix)."""

    def fit(self, rows: Rows, keep: Tensor, labels: Tensor, classes: int) -> None:
        """rows: training answers; keep [N, T] bool: tokens to read; labels [N]."""

    def log_probs(self, rows: Rows, keep: Tensor, ends: Tensor) -> Tensor:
        """log p(class | the first ends[b, j] tokens of response b): [B, k, classes]."""


class Classifier(Scorer):
    """Probability that an answer is the owner's, by a classifier trained on the owners' answers."""

    name = "classifier"
    fidelity = "proxy"

    class Params(Scorer.Params):
        """Settings of `classifier`."""

        backbone: str = Field("ngram", description="'ngram', 'causal', or the id or folder of a sentence encoder.")
        epochs: int = Field(12, ge=1, description="Passes over the answers (paper: 5 on TOFU, 15 on ArXiv).")
        learning_rate: float | None = Field(
            None, gt=0, description="Default by backbone: ngram 0.05, causal 1e-3 (paper: 1e-4)."
        )
        batch_size: int = Field(16, ge=1, description="Answers per update (paper: 16).")
        prefixes: bool = Field(True, description="Train on prefixes too; false: whole answers only (paper).")
        mask_names: bool = Field(True, description="Leave out the owners' names; false: keep them (paper).")
        label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of each label spread over all classes.")
        unattributed: bool = Field(False, description="One more class: background texts that are no owner's.")
        output: str = Field("probability", pattern="^(probability|log-odds)$", description="p(i | y), or its log-odds.")
        rank: int = Field(16, ge=1, description="causal: LoRA rank (paper: 16).")
        alpha: float = Field(32.0, gt=0, description="causal: LoRA alpha (paper: 32).")
        dropout: float = Field(0.1, ge=0, lt=1, description="causal: LoRA dropout (paper: 0.1).")
        model: str | None = Field(None, description="causal: folder of the classifier's model; null: base, else original.")

    backend: Backend | None = None

    def fit(self, context: ScorerContext) -> None:
        self.context = context
        self.index = {owner: position for position, owner in enumerate(context.owners)}
        if len(self.index) < 2:
            raise ScorerError("The classifier needs at least two owners to tell apart; the corpus has one.")
        examples = [(row.response, self.index[owner]) for owner, rows in context.rows_by_owner.items() for row in rows]
        if self.params.unattributed:
            examples += self._background(context, len(examples) // len(self.index))
        texts = [text for text, _ in examples]
        rows = answers_alone(context, texts)
        classes = len(self.index) + int(self.params.unattributed)
        self.backend = self._backend(context)
        self.backend.fit(rows, self._keep(rows), torch.tensor([label for _, label in examples]), classes)

    def _background(self, context: ScorerContext, count: int) -> list[tuple[str, int]]:
        texts = sorted({row.response for row in context.background})
        if not texts:
            raise ScorerError("classifier.unattributed needs background rows in the corpus; it has none.")
        step = max(len(texts) // max(count, 1), 1)
        return [(text, len(self.index)) for text in texts[::step][:count]]

    def _backend(self, context: ScorerContext) -> Backend:
        if self.params.backbone == "ngram":
            from deattrib_scorers._ngram import NgramBackend

            return NgramBackend(self.params, seed=context.seed)
        if self.params.backbone == "causal":
            from deattrib_scorers._causal import CausalBackend

            return CausalBackend(self.params, context)
        from deattrib_scorers._encoder import EncoderBackend

        return EncoderBackend(self.params, context)

    def _keep(self, rows: Rows) -> Tensor:
        return kept_tokens(self.context, rows, mask_names=self.params.mask_names)

    # -- scores -------------------------------------------------------------------------------------------------------
    def score(self, rows: Rows) -> Tensor:
        return self.score_prefixes(rows, rows.batch.response_lengths.cpu()[:, None])[:, 0]

    def score_prefixes(self, rows: Rows, ends: Tensor) -> Tensor:
        log_probs = self._log_probs(rows, ends.cpu())
        columns = torch.tensor([self._column(owner) for owner in rows.owners])
        return self._output(log_probs.gather(2, columns[:, None, None].expand(-1, ends.shape[1], 1)).squeeze(2))

    def score_owners(self, rows: Rows, owners: Sequence[str]) -> Tensor:
        ends = rows.batch.response_lengths.cpu()[:, None]
        log_probs = self._log_probs(rows, ends)[:, 0]
        return self._output(log_probs[:, [self._column(owner) for owner in owners]])

    def _log_probs(self, rows: Rows, ends: Tensor) -> Tensor:
        if self.backend is None:
            raise ScorerError("The classifier has nothing to score with: call fit() first; close() ends its use.")
        return self.backend.log_probs(rows, self._keep(rows), ends)

    def _column(self, owner: str) -> int:
        if owner not in self.index:
            raise ScorerError(f"The classifier was not trained on owner {owner!r}; it knows {len(self.index)} owners.")
        return self.index[owner]

    def _output(self, log_probs: Tensor) -> Tensor:
        if self.params.output == "probability":
            return log_probs.exp()
        return log_probs - torch.log1p(-log_probs.exp().clamp(max=1 - 1e-7))

    def close(self) -> None:
        self.backend = None


@hookimpl
def scorers() -> Sequence[type[Scorer]]:
    return [Classifier]
