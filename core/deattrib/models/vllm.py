"""Rollouts by vLLM: the backbone is loaded there once, the adapter of the step is handed over as files.

Needs the extra `vllm` and CUDA. Only LoRA: whole weights would have to be copied into the engine at every step. vLLM draws
with seeds that are taken from the run's generator; it does not promise the same samples on another machine.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deattrib.errors import ConfigError
from deattrib.models.backends import Asked
from deattrib.models.batch import TokenBatch
from deattrib.models.recipes import PolicySettings

SHARE = 0.4  # of the GPU's memory; the rest is the trainer's


class Vllm:
    """Samples through `vllm.LLM`.

    Raises:
        ConfigError: vLLM is not installed, or the policy trains all weights.
    """

    def __init__(self, settings: PolicySettings, original: nn.Module) -> None:
        if settings.adapter != "lora":
            raise ConfigError(
                "ppo.rollout.backend 'vllm' samples from LoRA policies only: set policy.adapter to lora, or the backend to hf."
            )
        try:
            import vllm
        except ImportError as error:
            raise ConfigError(
                "ppo.rollout.backend 'vllm' needs vLLM, which is not installed: pip install 'deattrib[vllm]', or set it to hf."
            ) from error
        self._vllm: Any = vllm
        self._rank, self._original = settings.rank, original
        self._folder = tempfile.TemporaryDirectory(prefix="deattrib-vllm-")
        self._engine: Any = None
        self._numbers = itertools.count(1)

    def sample(self, model: nn.Module, batch: TokenBatch, asked: Asked) -> TokenBatch:
        adapted: Any = model
        engine = self._started()
        number = next(self._numbers)
        adapter = self._written(adapted, number)
        parameters = self._vllm.SamplingParams(
            temperature=asked.temperature, top_p=1.0, top_k=-1, max_tokens=asked.max_new_tokens,
            stop_token_ids=sorted(asked.stop_ids), seed=int(torch.randint(2**31, (), generator=asked.generator)),
            detokenize=False,
        )  # fmt: skip
        from vllm.lora.request import LoRARequest

        # Rows of one prompt have seeds of their own, or they would all say the same.
        wanted = [parameters.clone() for _ in range(len(batch))]
        for row, one in enumerate(wanted):
            one.seed = parameters.seed + row
        outputs = engine.generate(
            [{"prompt_token_ids": ids} for ids in batch.prompt_lists()], wanted,
            lora_request=LoRARequest(f"step-{number}", number, str(adapter)), use_tqdm=False,
        )  # fmt: skip
        responses = [list(output.outputs[0].token_ids) for output in outputs]
        sampled = TokenBatch.from_lists(batch.prompt_lists(), responses, asked.pad_id).to(batch.prompt_ids.device)
        return TokenBatch(batch.prompt_ids, batch.prompt_lengths, sampled.response_ids, sampled.response_lengths)

    def _started(self) -> Any:
        """The engine, with the original model's weights, which are the backbone's without an adapter."""
        if self._engine is None:
            original: Any = self._original
            folder = Path(self._folder.name) / "backbone"
            original.save_pretrained(folder)
            self._engine = self._vllm.LLM(
                model=str(folder), skip_tokenizer_init=True, enable_lora=True, max_lora_rank=max(self._rank, 8),
                max_loras=1, gpu_memory_utilization=SHARE, dtype=str(original.dtype).removeprefix("torch."),
            )  # fmt: skip
        return self._engine

    def _written(self, model: Any, number: int) -> Path:
        """The active adapter as files; those of the step before are gone."""
        name = model.active_adapter
        shutil.rmtree(Path(self._folder.name) / f"adapter-{number - 1}", ignore_errors=True)
        folder = Path(self._folder.name) / f"adapter-{number}"
        model.save_pretrained(folder, selected_adapters=[name])
        return folder if name == "default" else folder / name
