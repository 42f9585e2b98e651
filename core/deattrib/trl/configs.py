"""Configs for trl's trainers without the surprises of its defaults (trl 1.16)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from deattrib.errors import ConfigError


def grpo_config(output_dir: str, *, model: Any = None, peft_config: Any = None, **settings: Any) -> Any:
    """A `trl.GRPOConfig` whose surprises are taken out; every setting given here wins.

    - No KL term unless `beta` is given. With one and without LoRA, trl loads the reference anew from
      `model.config._name_or_path`, whatever was done to the model since: `model` is then needed here and compared.
    - Off an accelerator: float32 (trl's default is bfloat16 there too), no gradient checkpointing.
    - No dropout, so that the policy that is trained is the one that was sampled from.
    - Nothing is reported to trackers and no start-up message is sent to the hub.

    Args:
        output_dir: trl's folder of checkpoints.
        model, peft_config: what the trainer will be given.

    Raises:
        ConfigError: the reference would not be the model given, or nothing in the model could be trained.
    """
    from trl import GRPOConfig

    return _config(GRPOConfig, output_dir, model, peft_config, settings)


def rloo_config(output_dir: str, *, model: Any = None, peft_config: Any = None, **settings: Any) -> Any:
    """A `trl.RLOOConfig` from the arguments of `grpo_config`; trl's own default of `beta` is 0.05, here it is 0."""
    from trl import RLOOConfig

    return _config(RLOOConfig, output_dir, model, peft_config, settings)


def _config(kind: Any, output_dir: str, model: Any, peft_config: Any, settings: dict[str, Any]) -> Any:
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    plain = {} if accelerated else {"use_cpu": True, "bf16": False, "gradient_checkpointing": False}
    chosen = {"beta": 0.0, "disable_dropout": True, "report_to": "none", **plain, **settings}
    if isinstance(model, nn.Module) and peft_config is None and not any(p.requires_grad for p in model.parameters()):
        raise ConfigError(
            f"Nothing in this {type(model).__name__} can be trained: all of it is frozen, as every LanguageModel is. Give the "
            "trainer a copy, language_model.clone().requires_grad_(True), or a peft_config."
        )
    if chosen["beta"]:
        _check_reference(model, peft_config, chosen["beta"])
    return kind(output_dir=output_dir, **chosen)


def _check_reference(model: Any, peft_config: Any, beta: float) -> None:
    """Raises ConfigError unless the reference that trl will make is the model as it is now."""
    if peft_config is not None or hasattr(model, "peft_config") or isinstance(model, str):
        return  # the adapter off, a copy of the adapter, or the same folder read twice
    why = f"With beta={beta:g} and no LoRA, trl loads the reference from model.config._name_or_path"
    ways = "Save the model to a folder and load it from there, or give a peft_config, or leave beta at 0."
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{why}: say grpo_config(model=...) what the trainer will be given, so that it can be compared.")
    source = getattr(model.config, "_name_or_path", "")
    if not source:
        raise ConfigError(f"{why}, which is empty for this {type(model).__name__}. {ways}")
    from transformers import AutoModelForCausalLM

    try:
        reference = AutoModelForCausalLM.from_pretrained(source, dtype=model.dtype)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{why}, and {source!r} cannot be loaded ({str(error).splitlines()[0]}). {ways}") from error
    theirs = reference.state_dict()
    for name, value in model.state_dict().items():
        if name not in theirs or not torch.equal(theirs[name], value.cpu()):
            raise ConfigError(f"{why}, and what is saved in {source!r} is another model ({name} differs). {ways}")
