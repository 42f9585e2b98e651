"""Who samples the rollouts: the policy's own modules, or another engine that is given the weights of the step.

Whoever samples, log-probabilities are computed afterwards by the forward pass that the update uses (`ppo/rollout.py`): what an
engine with other kernels says of its own samples would not give a ratio of 1.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from deattrib.models.batch import TokenBatch
from deattrib.models.ranks import ALONE, ProcessGroup
from deattrib.models.recipes import PolicySettings, RolloutSettings
from deattrib.models.sampling import sample


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be sampled; see `deattrib.models.sampling.sample`."""

    max_new_tokens: int
    temperature: float
    stop_ids: Collection[int]
    pad_id: int
    generator: torch.Generator
    how: RolloutSettings
    whole: int | None = None  # rows of the batch that these are the own part of
    processes: ProcessGroup = ALONE


class Backend(Protocol):
    """Samples one response per row."""

    def sample(self, model: nn.Module, batch: TokenBatch, asked: Asked) -> TokenBatch:
        """Responses to `batch`'s prompts from `model` as it is now, of at most `max_new_tokens`, stop token included.

        Rows of one prompt stand together. The same prompts on the same device, in the same order; everything random follows
        from `asked.generator`.
        """


class Own:
    """The policy's modules, with a cache (`models/sampling.py`)."""

    def sample(self, model: nn.Module, batch: TokenBatch, asked: Asked) -> TokenBatch:
        return sample(
            model,
            batch.prompt_ids,
            batch.prompt_lengths,
            max_new_tokens=asked.max_new_tokens,
            temperature=asked.temperature,
            stop_ids=asked.stop_ids,
            pad_id=asked.pad_id,
            generator=asked.generator,
            copies=asked.how.samples,
            drop=asked.how.drop_finished,
            whole=asked.whole,
            processes=asked.processes,
        )


def make_backend(name: str, settings: PolicySettings, original: nn.Module) -> Backend:
    """The backend of a name for a policy around `original`.

    Raises ConfigError where it cannot sample from such a policy or is not installed.
    """
    if name == "hf":
        return Own()
    from deattrib.models.vllm import Vllm

    return Vllm(settings, original)


def in_parts(backend: Backend, model: nn.Module, batch: TokenBatch, asked: Asked) -> TokenBatch:
    """Sample a batch, in parts of prompts of similar length where that is asked for; the rows come back in their order.

    Parts are for one process: several take each step together (`ppo/split.py` refuses both at once).
    """
    size = asked.how.batch_size
    groups = len(batch) // asked.how.samples
    if size is None or size >= groups:
        return backend.sample(model, batch, asked)
    asked = replace(asked, whole=None)
    lengths = batch.prompt_lengths.view(groups, asked.how.samples)[:, 0]
    order = lengths.argsort(stable=True)
    rows = torch.arange(len(batch), device=order.device).view(groups, -1)[order]
    done = [backend.sample(model, batch.rows(part.flatten()).trimmed(), asked) for part in rows.split(size)]
    width = max(part.response_ids.shape[1] for part in done)
    responses = [_widened(part.response_ids, width, asked.pad_id) for part in done]
    back = rows.flatten().argsort()
    answers, counts = torch.cat(responses)[back], torch.cat([part.response_lengths for part in done])[back]
    return TokenBatch(batch.prompt_ids, batch.prompt_lengths, answers, counts)


def _widened(ids: Tensor, width: int, pad_id: int) -> Tensor:
    return nn.functional.pad(ids, (0, width - ids.shape[1]), value=pad_id)
