"""Weights rounded to a few bits: where unlearning moved weights less than rounding does, rounding brings the old model back.

Source: Zhang et al. 2024 (arXiv 2410.16454), who find that 4-bit models answer again what full precision has forgotten. Here:
symmetric round-to-nearest per group of consecutive inputs of one output, scale max|w| / (2^(bits-1) - 1), the adapter merged
before. Input embeddings, norms, biases and the output head stay as they are, as is usual for 4-bit models. Where we deviate:
they use AWQ and GPTQ beside rounding and find little between them; those need calibration data.
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from deattrib.attacks.base import Attack, AttackResult, AttackSubject
from deattrib.errors import ModelError
from deattrib.evaluation.arrays import mean_of
from deattrib.models.forward import head_of
from deattrib.models.language_model import LanguageModel


class Quantisation(Attack):
    """Round the linear weights to 4 bits and ask again."""

    name = "int4"
    source = "Zhang et al. 2024, arXiv 2410.16454"
    what = "ROUGE-L recall of greedy answers to forget prompts after the linear weights were rounded to 4 bits."
    x = "bits per weight"

    class Params(Attack.Params):
        bits: tuple[int, ...] = Field((3, 4, 8), min_length=1, description="Numbers of bits of the curve, 2 to 8.")
        group: int = Field(64, ge=1, description="Consecutive inputs that share a scale.")

        @model_validator(mode="after")
        def _known(self) -> Quantisation.Params:
            if list(self.bits) != sorted({*self.bits}) or not 2 <= self.bits[0] <= self.bits[-1] <= 8 or 4 not in self.bits:
                raise ValueError("`bits` must rise, be from 2 to 8 and have the 4 of the figure, such as [3, 4, 8]")
            return self

    def run(self, subject: AttackSubject) -> AttackResult:
        forget, retain = subject.forget, subject.retain
        curve: list[tuple[float, float]] = []
        facts: list[tuple[float, float]] = []
        more: dict[str, float | None] = {}
        figure, interval, layers = None, None, 0
        for bits in self.params.bits:
            module = subject.copy()
            layers = quantise(module, bits=bits, group=self.params.group)
            model = LanguageModel(module, subject.model.codec, name=f"{subject.name}, {bits} bits")
            answers = subject.answers([row.prompt for row in forget], model=model)
            values = subject.rouge(answers, forget)
            curve.append((float(bits), float(values.mean())))
            recall = mean_of(subject.facts(answers, forget))
            facts += [] if recall is None else [(float(bits), recall)]
            if bits == 4:
                kept = subject.answers([row.prompt for row in retain], model=model)
                figure, interval = float(values.mean()), subject.interval(values, forget)
                more = {"fact_recall": recall, "retain_rouge": mean_of(subject.rouge(kept, retain))}
        before = subject.rouge(subject.answers([row.prompt for row in forget]), forget)
        return AttackResult(
            figure,
            curve,
            f"{self.what} Here: {len(forget)} rows, {layers} layers, groups of {self.params.group}.",
            interval,
            {"before": float(before.mean()), **more},
            {"fact recall": facts} if facts else {},
        )


@torch.no_grad()
def quantise(module: nn.Module, *, bits: int, group: int) -> int:
    """Round the weights of all linear layers but the head, in place; how many layers that were.

    Raises:
        ModelError: the model has no linear layer.
    """
    head, layers = head_of(module), 0
    for layer in module.modules():
        turned = type(layer).__name__ == "Conv1D"  # GPT-2's linear layers keep their weights [in, out]
        weight = getattr(layer, "weight", None)
        if layer is head or not (turned or isinstance(layer, nn.Linear)) or not isinstance(weight, Tensor):
            continue
        rounded = round_to_nearest(weight.t() if turned else weight, bits=bits, group=group)
        weight.copy_(rounded.t() if turned else rounded)
        layers += 1
    if not layers:
        raise ModelError(f"{type(module).__name__} has no linear layer whose weights could be rounded.")
    return layers


def round_to_nearest(weight: Tensor, *, bits: int, group: int) -> Tensor:
    """[out, in] -> at most 2^bits - 1 values per group, symmetric about 0; a last, shorter group has a scale of its own."""
    out, width = weight.shape
    values = nn.functional.pad(weight.float(), (0, -width % group)).reshape(out, -1, group)
    scale = (values.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)).clamp(min=torch.finfo(torch.float32).tiny)
    rounded: Tensor = ((values / scale).round() * scale).reshape(out, -1)[:, :width].to(weight.dtype)
    return rounded
