"""How a model is made: sizes from nothing, and fine-tuning. Settings only; loads no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator


class ScratchSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Sizes of a model made from nothing."""

    hidden: int = Field(128, gt=0, description="Width of the residual stream.")
    layers: int = Field(4, gt=0, description="Transformer blocks.")
    heads: int = Field(4, gt=0, description="Attention heads; divides `hidden`.")
    intermediate: int = Field(384, gt=0, description="Width of the MLP.")
    vocabulary: int = Field(2048, gt=260, description="Size of the byte-level BPE vocabulary.")
    context: int = Field(256, gt=0, description="Longest sequence in tokens.")


class TrainingSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """How a model is fine-tuned on answers."""

    epochs: float = Field(10.0, gt=0, le=1e6, description="Passes over the rows.")
    steps: int | None = Field(None, gt=0, description="Optimiser steps; overrides `epochs`.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of AdamW.")
    batch_size: int = Field(16, gt=0, description="Rows per optimiser step.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay.")
    bf16: bool = Field(False, description="Mixed precision with bfloat16.")
    world: bool = Field(
        False, description="Mix the corpus' world questions in; a small model made from nothing forgets them otherwise."
    )
    lora_rank: int = Field(0, ge=0, description="0 trains all weights, else LoRA of this rank, merged afterwards.")

    def steps_on(self, rows: int) -> int:
        """Optimiser steps for so many rows."""
        return self.steps or max(round(self.epochs * rows / self.batch_size), 1)


class BaseTrainingSettings(TrainingSettings):
    """How a base model made from nothing learns the background rows."""

    epochs: float = Field(1.0, gt=0, le=1e6, description="Passes over the rows.")
    learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate of AdamW.")


class RolloutSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """How responses are sampled; log-probabilities are always computed by the policy itself afterwards."""

    backend: Literal["hf", "vllm"] = Field(
        "hf",
        description="Who samples: the policy's own modules, or vLLM with the adapter of the step (extra `vllm`, CUDA, LoRA).",
    )
    samples: int = Field(
        1, ge=1, description="Responses per prompt; divides `ppo.batch_size`. The prompt is read once for all."
    )
    batch_size: int | None = Field(
        None, ge=1, description="Prompts sampled at once, those of similar length together; null: the whole batch."
    )
    drop_finished: bool | None = Field(
        None, description="Finished rows leave the batch; null: where the model has 20 million parameters or more."
    )


class PolicySettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """What is trained on top of the original model."""

    adapter: Literal["lora", "full"] = Field("lora", description="Train LoRA adapters, or all weights.")
    rank: int = Field(16, gt=0, description="LoRA rank r.")
    alpha: float = Field(32.0, gt=0, description="LoRA scale alpha; the update is scaled by alpha / r.")
    targets: str | list[str] = Field("all-linear", description="Modules that get an adapter, as peft names them.")
    critic: Literal["shared", "separate"] = Field("shared", description="Where the value is read.")
    sharding: Literal["none", "fsdp"] = Field(
        "none",
        description="Of several processes each holds all weights, or (fsdp) its part of them. Has no effect in one process.",
    )
    checkpointing: bool = Field(
        False,
        description="Compute activations again in the backward pass: less memory, a third more work. Under LoRA with "
        "`critic: shared` only.",
    )

    @model_validator(mode="after")
    def _one_adapter(self) -> PolicySettings:
        if self.checkpointing and self.critic == "separate" and self.adapter == "lora":
            raise ValueError(
                "checkpointing would compute the critic's activations again with the policy's adapter: take critic: shared"
            )
        return self
