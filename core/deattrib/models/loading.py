"""Loading models and tokenizers: hub ids, folders, PEFT adapters, GGUF files through transformers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deattrib.errors import ModelError
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.settings import ModelSettings


def pick_device(wish: str) -> torch.device:
    """'auto' is CUDA, then MPS, then the CPU."""
    if wish != "auto":
        try:
            return torch.device(wish)
        except RuntimeError as error:
            raise ModelError(f"model.device {wish!r} is no torch device: {error}") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def load_tokenizer(path: str, settings: ModelSettings) -> Any:
    from transformers import AutoTokenizer

    options: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code}
    if settings.gguf_file:
        options["gguf_file"] = settings.gguf_file
    try:
        return AutoTokenizer.from_pretrained(_base_of_adapter(path) or path, **options)
    except (OSError, ValueError) as error:
        raise ModelError(f"The tokenizer of {path!r} cannot be loaded: {_first_line(error)}") from error


def load_model(path: str, settings: ModelSettings) -> nn.Module:
    """A causal LM in eval mode on the chosen device. A PEFT adapter is merged into its model.

    Raises:
        ModelError: naming the path and what transformers said.
    """
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": getattr(torch, settings.dtype), "trust_remote_code": settings.trust_remote_code}
    if settings.gguf_file:
        options["gguf_file"] = settings.gguf_file
    below = _base_of_adapter(path)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(below or path, **options)
        if settings.gguf_file:
            model = _dequantised(model)
        if below:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, path).merge_and_unload()
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"The model {path!r} cannot be loaded: {_first_line(error)} Give a hub id, or a folder with config.json or "
            "adapter_config.json in it."
        ) from error
    loaded: nn.Module = model.to(pick_device(settings.device)).eval()
    return loaded


def _dequantised(model: Any) -> Any:
    """A model of its own class with the weights that transformers read from a GGUF file.

    They are full ones by then, but the model still counts as quantised, and transformers neither saves nor trains it.
    """
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.random.fork_rng(devices=[]):  # the weights that it begins with are drawn, and overwritten
        plain = AutoModelForCausalLM.from_config(config, dtype=model.dtype)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain


def is_adapter(path: str) -> bool:
    """Whether a folder has a PEFT adapter in it."""
    return (Path(path) / "adapter_config.json").is_file()


def apply_adapter(model: nn.Module, path: str) -> nn.Module:
    """`model` with a PEFT adapter merged into it, in place; eval mode.

    Raises:
        ModelError: the adapter cannot be loaded, or belongs to another model.
    """
    from peft import PeftModel

    try:
        merged: Any = PeftModel.from_pretrained(model, path).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"The adapter {path!r} cannot be put on top of the model: {_first_line(error)} Give a folder or hub id with "
            "adapter_config.json, made for this very model."
        ) from error
    loaded: nn.Module = merged.eval()
    return loaded


def make_codec(tokenizer: Any, settings: ModelSettings) -> Codec:
    return Codec(tokenizer, template=settings.template, max_prompt_tokens=settings.max_prompt_tokens)


def load_language_model(path: str, *, codec: Codec, device: torch.device | str = "auto") -> LanguageModel:
    """A frozen model that shares `codec`; its vocabulary must be of the same size."""
    model = load_model(path, ModelSettings(device=str(device)))
    check_vocabulary(model, codec, path)
    return LanguageModel(model, codec, name=path)


def check_vocabulary(model: nn.Module, codec: Codec, path: str) -> None:
    """Raises ModelError when the tokenizer has ids that the model does not know."""
    size = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    if len(codec.tokenizer) > size:
        raise ModelError(
            f"The tokenizer has {len(codec.tokenizer)} tokens, the model {path!r} only {size}: they do not belong together."
        )


def save_model(model: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Weights as safetensors, config and tokenizer, as transformers reads them back."""
    model.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)


def _base_of_adapter(path: str) -> str | None:
    config = Path(path) / "adapter_config.json"
    if not config.is_file():
        return None
    import json

    base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise ModelError(f"{config} names no base model (base_model_name_or_path), so the adapter cannot be applied.")
    return str(base)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
