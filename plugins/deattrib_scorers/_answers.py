"""Answers without their questions, for scorers that read nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from deattrib import Rows, ScorerContext


def kept_tokens(context: ScorerContext, rows: Rows, *, mask_names: bool) -> Tensor:
    """[B, T] bool on the CPU: real text tokens, without names if asked, never the end-of-sequence token."""
    batch = rows.batch.to("cpu")
    keep = batch.response_mask & (batch.response_ids != context.codec.eos_id)
    return keep & ~context.name_mask(rows) if mask_names else keep


def answers_alone(context: ScorerContext, texts: Sequence[str]) -> Rows:
    """Answers as rows; nothing reads the prompts, so all get the same short one."""
    return Rows.from_texts(context.codec, ["?"] * len(texts), texts, [""] * len(texts))
