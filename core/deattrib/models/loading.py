"""Loading models and tokenizers: hub ids, folders, PEFT adapters, GGUF files through transformers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from deattrib.errors import DeattribError, ModelError, first_line, shown
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.randomness import random_state_kept
from deattrib.models.settings import ModelSettings


def pick_device(wish: str) -> torch.device:
    """'auto' is CUDA, then MPS, then the CPU. Raises ModelError where torch has no such device on this machine."""
    if wish != "auto":
        try:
            device = torch.device(wish)
        except RuntimeError as error:
            raise ModelError(f"model.device {wish!r} is no torch device: {first_line(error)}") from error
        if device.type == "meta":
            raise ModelError("model.device 'meta' holds no numbers, so nothing can be computed there. Give 'auto', or 'cpu'.")
        try:
            torch.empty(0, device=device)
        except Exception as error:  # AssertionError, RuntimeError, NotImplementedError, ...: as the kind of device likes it
            said = first_line(error).split(". ")[0]
            raise ModelError(
                f"model.device {wish!r} cannot be used on this machine ({said}). Give 'auto' or 'cpu'; `deattrib doctor` lists "
                "what there is."
            ) from error
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@contextmanager
def explained(what: str, advice: str | Callable[[], str]) -> Iterator[None]:
    """One ModelError for whatever the libraries below make of a damaged file: each of them raises something else."""
    try:
        yield
    except DeattribError:
        raise
    except ImportError as error:
        package = "gguf" if "gguf" in str(error).lower() else error.name if isinstance(error, ModuleNotFoundError) else None
        install = f"Install it with: pip install {package}" if package else "Install what it names."
        raise ModelError(f"{what}, a package is missing: {first_line(error)} {install}") from error
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
        said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
        if "trust_remote_code" in str(error):
            advice = "It brings code of its own, which is run where `model.trust_remote_code: true` says that you trust it."
        if not said or not isinstance(error, (OSError, ValueError, RuntimeError)):  # "'x'" says nothing without "KeyError"
            said = f"{type(error).__name__}: {said}"
        raise ModelError(f"{what}: {said.rstrip(' .:')}. {advice if isinstance(advice, str) else advice()}") from error


def load_tokenizer(path: str, settings: ModelSettings) -> Any:
    """The tokenizer of a model; of an adapter, that of the model at the bottom."""
    from transformers import AutoTokenizer

    options: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code}
    if settings.gguf_file:
        options["gguf_file"] = settings.gguf_file
    where = str(Path(path) / settings.gguf_file) if settings.gguf_file else path
    advice = partial(_advice, path, "Check its files: one of them may be cut off.")
    with explained(f"The tokenizer of {where!r} cannot be loaded", advice):
        return AutoTokenizer.from_pretrained(model_below(path), **options)


def load_model(path: str, settings: ModelSettings) -> nn.Module:
    """A causal LM in eval mode on the chosen device.

    A PEFT adapter is merged into its model, which may be another adapter (what a run leaves of an original that was an
    adapter itself). The merged model goes by the adapter's name, so that an adapter trained on it names the right base.

    Raises:
        ModelError: naming the path and what transformers said.
    """
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": getattr(torch, settings.dtype), "trust_remote_code": settings.trust_remote_code}
    if settings.gguf_file:
        options["gguf_file"] = settings.gguf_file
    if settings.attention:
        options["attn_implementation"] = settings.attention
    device = pick_device(settings.device)
    advice = partial(_advice, path, "Give a hub id, or a folder with config.json or adapter_config.json in it.")
    with explained(f"The model {path!r} cannot be loaded", advice):
        *adapters, bottom = _below(path)
        model: Any = AutoModelForCausalLM.from_pretrained(bottom, **options)
        _named(model, bottom)
        if settings.gguf_file:
            model = _dequantised(model)
        for adapter in reversed(adapters):
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
            _named(model, adapter)
        loaded: nn.Module = model.to(device).eval()
    return loaded


def _named(model: Any, source: str) -> None:
    """Folders by their whole path: an adapter trained on the model names it, and is loaded from elsewhere."""
    model.name_or_path = model.config._name_or_path = str(Path(source).resolve()) if Path(source).exists() else source


def _advice(path: str, advice: str) -> str:
    """What to do about a model that cannot be loaded: of what is not here the hub has been asked."""
    here = ""
    with suppress(OSError):  # a name that no file can have, or a working directory that is gone
        if Path(path).exists():
            return advice
        here = f" (in {Path.cwd()})"
    return f"No folder {shown(path)!r} is here{here}, so it was taken for a hub id: check the path, or the network."


def _dequantised(model: Any) -> Any:
    """A model of its own class with the weights that transformers read from a GGUF file.

    They are full ones by then, but the model still counts as quantised, and transformers neither saves nor trains it.
    """
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with random_state_kept():  # the weights that it begins with are drawn, and overwritten
        plain = AutoModelForCausalLM.from_config(
            config, dtype=model.dtype, attn_implementation=model.config._attn_implementation
        )
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain


def is_adapter(path: str) -> bool:
    """Whether a folder has a PEFT adapter in it."""
    return (Path(path) / "adapter_config.json").is_file()


def model_below(path: str) -> str:
    """The model at the bottom of an adapter, or of adapters on top of each other; any other path is its own."""
    return _below(path)[-1]


def apply_adapter(model: nn.Module, path: str) -> nn.Module:
    """`model` with a PEFT adapter merged into it, in place; eval mode.

    Raises:
        ModelError: the adapter cannot be loaded, or belongs to another model.
    """
    from peft import PeftModel

    advice = "Give a folder or hub id with adapter_config.json, made for this very model."
    with explained(f"The adapter {path!r} cannot be put on top of the model", advice):
        merged: Any = PeftModel.from_pretrained(model, path).merge_and_unload()
    loaded: nn.Module = merged.eval()
    return loaded


def make_codec(tokenizer: Any, settings: ModelSettings) -> Codec:
    return Codec(tokenizer, template=settings.template, max_prompt_tokens=settings.max_prompt_tokens)


def load_language_model(
    path: str, *, codec: Codec, device: torch.device | str = "auto", dtype: torch.dtype = torch.float32
) -> LanguageModel:
    """A frozen model that shares `codec`.

    Args:
        path: hub id or folder, also of a PEFT adapter.
        device: as `model.device`.
        dtype: float32, bfloat16 or float16; a scorer that compares likelihoods takes its context's.

    Raises:
        ModelError: it cannot be loaded, or the codec's tokenizer has ids that it does not know.
    """
    kinds: dict[torch.dtype, Literal["float32", "bfloat16", "float16"]]
    kinds = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
    if dtype not in kinds:
        raise ModelError(f"A model cannot be loaded in {dtype}; expected one of {', '.join(map(str, kinds))}.")
    model = load_model(path, ModelSettings(device=str(device), dtype=kinds[dtype]))
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
    """Weights as safetensors, config and tokenizer, as transformers reads them back. Raises OSError, on a full disk, say."""
    from safetensors import SafetensorError

    try:
        model.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
    except SafetensorError as error:  # its own wrapping of what the system said
        raise OSError(str(error)) from error
    tokenizer.save_pretrained(folder)


def _below(path: str) -> list[str]:
    """`path`, and under an adapter the model it was made for, down to one that is no adapter.

    Raises:
        ModelError: an adapter names no model, or they name each other.
    """
    chain = [path]
    while (config := _adapter_config(chain[-1])) is not None:
        base = _base_of(config)
        if not base:
            raise ModelError(f"{config} names no base model (base_model_name_or_path), so the adapter cannot be applied.")
        if str(base) in chain:
            raise ModelError(f"{config} names {base!r} as its base model, which is an adapter on top of this one.")
        chain.append(str(base))
    return chain


def _base_of(config: Path) -> object:
    """`base_model_name_or_path` of an adapter_config.json. Raises ModelError where it is no JSON object in UTF-8."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        said = first_line(error)
        raise ModelError(f"{config} is no JSON object in UTF-8 ({said}): save the adapter anew.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{config} holds a {type(content).__name__}, expected a JSON object; save the adapter anew.")
    return content.get("base_model_name_or_path")


def _adapter_config(path: str) -> Path | None:
    """The adapter_config.json of a folder or a hub id; None for what is no adapter, or out of reach."""
    if Path(path).exists():
        config = Path(path) / "adapter_config.json"
        return config if config.is_file() else None
    from transformers.utils.peft_utils import find_adapter_config_file

    try:
        found = find_adapter_config_file(path)
    except (OSError, ValueError):  # whoever loads the model says why
        return None
    return Path(found) if found else None
