"""Fine-tuning on answers: how base, original and oracle models are made.

The loop is trl's `SFTTrainer` (schedule, clipping, mixed precision), in one process. Only its loss is replaced:
cross-entropy on response tokens, from logits computed at response positions alone, which saves much of the work of a
small model with a wide vocabulary, and leaves out the entropy and accuracy that the trainer would log.
"""

from __future__ import annotations

import copy
import random
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deattrib.corpus.types import Example
from deattrib.models.batch import TokenBatch
from deattrib.models.forward import gather_log_probs, response_logits
from deattrib.models.language_model import Codec
from deattrib.models.randomness import random_state_kept
from deattrib.models.recipes import TrainingSettings


def answer_loss(model: nn.Module, batch: TokenBatch, positions: Tensor | None = None) -> Tensor:
    """Mean cross-entropy per response token over the whole batch: a scalar in float32.

    Args:
        positions: what the sum is divided by, where the batch is a part of a larger one; None: the batch's response tokens.
    """
    values = gather_log_probs(response_logits(model, batch)[0], batch.response_ids)
    mask = batch.response_mask
    return -(values * mask).sum() / (mask.sum() if positions is None else positions).clamp(min=1)


def fine_tune(
    model: nn.Module,
    codec: Codec,
    rows: Sequence[Example],
    settings: TrainingSettings,
    *,
    seed: int,
    kept: Sequence[bool] | None = None,
) -> nn.Module:
    """Train a model on the answers of `rows` and return it (the same object, or the merged one after LoRA).

    Where all weights are trained they are float32 from here on, whatever they were: in 16 bits most of an optimiser's steps
    are lost in rounding. Under LoRA the frozen weights keep their dtype, and the adapter is float32 until it is merged.

    The order of the batches and everything else that is random follows from `seed`; the global random state is
    set by the trainer and not restored.

    Args:
        kept: which rows give a loss; None: all. The others keep their place in the order of batches and are counted in the
            mean over a batch's response tokens, so that leaving a row out takes away its own gradient and nothing else: a
            kept row meets the same step with the same weight whoever is left out.
    """
    from transformers import PrinterCallback

    model = _with_lora(model, settings.lora_rank, seed) if settings.lora_rank else model.float()
    data = _data_set(codec, rows, kept)

    def collate(items: list[dict[str, Any]]) -> dict[str, Tensor]:
        positions = sum(len(item["response_ids"]) for item in items)
        # A batch of left-out rows only still is a step, without a gradient of its own.
        items = [item for item in items if item["kept"]] or [{**items[0], "response_ids": []}]
        batch = TokenBatch.from_lists(
            [item["prompt_ids"] for item in items], [item["response_ids"] for item in items], codec.pad_id
        )
        fields = {name: getattr(batch, name) for name in TokenBatch.__slots__}
        return fields if kept is None else {**fields, "positions": torch.tensor(positions)}

    with tempfile.TemporaryDirectory() as scratch:
        half = settings.bf16
        device = next(model.parameters()).device
        config = _trainer_config(settings, scratch, seed, half, device)
        trainer = _trainer_class()(
            model=model, args=config, train_dataset=data, data_collator=collate, processing_class=codec.tokenizer
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    trained: nn.Module = trainer.accelerator.unwrap_model(trainer.model)
    if settings.lora_rank:
        trained = trained.merge_and_unload()  # type: ignore[operator]
    for module in (model, trained):
        # The trainer leaves a wrapper bound to this object (under LoRA to the model inside), which a copy would call.
        module.__dict__.pop("forward", None)
    return trained.to(device).eval()  # the trainer knows one GPU only, the first


def _trainer_class() -> Any:
    """trl's trainer with the loss above."""
    from trl import SFTTrainer

    class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
        def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any) -> Any:
            fields = {name: inputs[name] for name in TokenBatch.__slots__}
            loss = answer_loss(model, TokenBatch(**fields), inputs.get("positions"))
            return (loss, None) if return_outputs else loss

        def _send_telemetry(self) -> None:
            """trl would tell the hub that it is used."""

    return AnswerTrainer


def _with_lora(model: nn.Module, rank: int, seed: int) -> nn.Module:
    """A LoRA on all linear layers around the model, its start fixed by the seed."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped: nn.Module = get_peft_model(model, config)
    return wrapped


def _data_set(codec: Codec, rows: Sequence[Example], kept: Sequence[bool] | None) -> Any:
    """The rows as token ids, with their lengths and whether they give a loss."""
    from datasets import Dataset

    prompts = [codec.prompt(row.prompt) for row in rows]
    responses = [codec.response(row.response) for row in rows]
    lengths = [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)]
    used = [True] * len(rows) if kept is None else list(kept)
    return Dataset.from_dict({"prompt_ids": prompts, "response_ids": responses, "length": lengths, "kept": used})


def _trainer_config(settings: TrainingSettings, folder: str, seed: int, bf16: bool, device: torch.device) -> Any:
    """trl's settings: the recipe's, and everything off that is not asked for."""
    from trl import SFTConfig

    config = SFTConfig(
        output_dir=folder,
        num_train_epochs=settings.epochs,
        max_steps=settings.steps or -1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        per_device_train_batch_size=settings.batch_size,
        seed=seed,
        data_seed=seed,
        bf16=bf16,
        activation_checkpointing=False,
        use_cpu=device.type == "cpu",
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        remove_unused_columns=False,
        average_tokens_across_devices=False,
        train_sampling_strategy="group_by_length",
        length_column_name="length",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    if config.n_gpu > 1:  # without a launcher the trainer would spread its batches over all of them, which trl refuses
        config._n_gpu = 1
    return config


def seconds_per_step(
    model: nn.Module, codec: Codec, rows: Sequence[Example], settings: TrainingSettings, *, steps: int = 3
) -> float:
    """Measured time of one optimiser step, on a copy of the model in float32 with all weights trained.

    An estimate for budgets: LoRA and mixed precision may be faster, and starting the trainer is not in it.
    """
    copied = copy.deepcopy(model).requires_grad_(True).train()
    optimiser = torch.optim.AdamW(copied.parameters(), lr=0.0)
    device = next(copied.parameters()).device
    rng = random.Random(0)
    start = 0.0
    with random_state_kept():  # dropout draws from the global generator
        for number in range(steps + 1):
            if number == 1:  # the first one makes buffers that the others find
                start = time.perf_counter()
            some = rng.choices(rows, k=settings.batch_size)
            batch = codec.encode([row.prompt for row in some], [row.response for row in some]).to(device)
            optimiser.zero_grad()
            answer_loss(copied, batch).backward()
            torch.nn.utils.clip_grad_norm_(copied.parameters(), 1.0)
            optimiser.step()
    return (time.perf_counter() - start) / steps
