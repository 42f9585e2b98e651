"""Which models a run starts from, and how they are made where they are not given. Loads no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from deattrib.models.recipes import BaseTrainingSettings, ScratchSettings, TrainingSettings


class ModelSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """The original model, the base model and the oracle.

    `path` given: that model is the original (it has been trained on the owners already). Not given: the original is
    made by fine-tuning the base model on the owners' rows; `base` not given either: the base is made from nothing on the
    corpus' background rows. The oracle is made from the base model by the same recipe without the forget owners.
    """

    path: str | None = Field(
        None, description="The original model: a hub id, a folder (also a PEFT adapter), or null to make it."
    )
    base: str | None = Field(
        None, description="The model before it was trained on the owners; null: none, or made from nothing."
    )
    oracle: str | None = Field(
        None, description="A model retrained without the forget owners; null: made where a base is there."
    )
    gguf_file: str | None = Field(None, description="File name inside `path` or `base` when the weights are a GGUF file.")
    template: str | None = Field(
        None,
        description="Prompt template with {prompt} in it; null: the tokenizer's chat template, else '{prompt}' and a line "
        "break.",
    )
    max_prompt_tokens: int = Field(1024, gt=0, description="Longer prompts are refused.")
    device: str = Field("auto", description="'auto' (CUDA, then MPS, then CPU) or a torch device.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Of the frozen weights.")
    attention: Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3"] | None = Field(
        None,
        description="transformers' implementation of attention in the run's models; null: its own choice. The flash ones "
        "need a GPU and 16 bits.",
    )
    trust_remote_code: bool = Field(False, description="Run model code from the hub; recorded in manifest and model card.")
    scratch: ScratchSettings = ScratchSettings()
    base_training: BaseTrainingSettings = BaseTrainingSettings()
    training: TrainingSettings = TrainingSettings()
    oracles: int = Field(2, ge=0, le=2, description="2: a second oracle of another seed as the noise floor; 0: none at all.")
    side_by_side: bool | None = Field(
        None,
        description="Make original and oracles at the same time, in processes of their own that share the threads; null: on "
        "a CPU with several threads, when it is worth the start of a process.",
    )

    @property
    def with_oracle(self) -> bool:
        """Whether a run has an oracle: one that is given, or made, which takes a base model."""
        return bool(self.oracle) or (self.oracles > 0 and (not self.path or bool(self.base)))

    @model_validator(mode="after")
    def _in_16_bits(self) -> ModelSettings:
        if (self.attention or "").startswith("flash"):
            if self.dtype == "float32":
                raise ValueError(f"{self.attention} computes in 16 bits: take dtype: bfloat16 with it, or attention: sdpa")
            if (self.base or not self.path) and not self.training.lora_rank and not self.training.bf16:
                raise ValueError(
                    f"{self.attention} computes in 16 bits, and without a LoRA rank weights are trained in 32: take "
                    "training.bf16: true or training.lora_rank with it, or attention: sdpa"
                )
        return self
