"""The model of a run without its weights: its config, its modules on the meta device, and what the policy would train.

Where the config cannot be reached (no network, an id that asks for a licence) the published sizes of a few models stand
in, else a model of the usual shape with the parameters that the name promises ("7b"); either is said. Nothing here raises
because a model is out of reach.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from deattrib.errors import ConfigError, first_line
from deattrib.models.recipes import PolicySettings
from deattrib.models.settings import ModelSettings

# Published config.json of models that ask for a licence or are far away, by the end of their id.
_LLAMA2: Final = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
                  "intermediate_size": 11008, "vocab_size": 32000}  # fmt: skip
_QWEN3: Final = {"model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32,
                 "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936}  # fmt: skip
_SMOL: Final = {"model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
                "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49152,
                "tie_word_embeddings": True}  # fmt: skip
PUBLISHED: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "llama-2-7b-chat-hf": _LLAMA2,
        "llama-2-7b-hf": _LLAMA2,
        "qwen3-8b": _QWEN3,
        "smollm2-135m-instruct": _SMOL,
        "smollm2-135m": _SMOL,
    }
)
_SIZE: Final = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)([mb])(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What of a model decides memory and work.

    Attributes:
        source: where this comes from, for the reader.
        exact: whether it is the model's own config.
        parameters: all of the backbone's.
        embedding: those of the input embedding, which are looked up and not multiplied; 0 where the head is the same tensor.
        head: those of the output head.
        adapter, value_head, critic: trained by the run: the policy's adapter (or its whole backbone, `full`), and beside it.
        hidden, layers, heads, key_value_heads, head_width, intermediate, vocabulary: the shape.
    """

    source: str
    exact: bool
    parameters: int
    embedding: int
    head: int
    adapter: int
    value_head: int
    critic: int
    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    head_width: int
    intermediate: int
    vocabulary: int

    @property
    def body(self) -> int:
        """Parameters that every token is multiplied with."""
        return self.parameters - self.embedding - self.head

    @property
    def trained(self) -> int:
        return self.adapter + self.value_head + self.critic


def sizes_of(settings: ModelSettings, policy: PolicySettings, tokenizer: Any) -> tuple[Sizes | None, str]:
    """Sizes of the run's original model with the policy around it, and what is to be said of them.

    Args:
        tokenizer: decides the vocabulary of a model made from nothing; else unused, may be None.

    Returns:
        None with the reason, where nothing is known of the model.

    Raises:
        ConfigError: `policy.targets` names modules that the model does not have.
    """
    config, source, exact = _config(settings, tokenizer)
    if config is None:
        return None, source
    try:
        module = _on_meta(config, settings.trust_remote_code)
    except (ValueError, RuntimeError, KeyError, ImportError, AttributeError, TypeError) as error:
        return None, f"{source}; its modules cannot be built from it ({first_line(error).rstrip('.')})"
    return _measure(module, config, policy, source, exact), source


def _config(settings: ModelSettings, tokenizer: Any) -> tuple[Any, str, bool]:
    from transformers import AutoConfig

    from deattrib.models.loading import model_below
    from deattrib.models.scratch import model_config

    name = settings.path or settings.base
    if name is None:
        return model_config(settings.scratch, tokenizer), "made from nothing (model.scratch)", True
    name = model_below(name)
    options: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code}
    if settings.gguf_file:
        options["gguf_file"] = settings.gguf_file
    try:
        return AutoConfig.from_pretrained(name, **options), name, True
    except Exception as error:  # network, licence, a missing folder, a file that is no config: what comes differs by library
        reason = f"{name}: its config is not within reach ({first_line(error).rstrip('.')})"
    known = PUBLISHED.get(name.rstrip("/").rpartition("/")[2].lower())
    if known is not None:
        return AutoConfig.for_model(**known), f"{reason}; sizes as published", False
    wanted = parameters_in(name)
    if wanted is None:
        return None, f"{reason}, and its name does not say how large it is", False
    return _usual(wanted), f"{reason}; sizes of a usual Llama with {wanted:,} parameters, after its name", False


def parameters_in(name: str) -> int | None:
    """How many parameters a model's name promises: "Llama-2-7b" is 7,000,000,000; None where it says nothing."""
    found = _SIZE.search(name.rstrip("/").rpartition("/")[2].replace("_", "-"))
    return round(float(found[1]) * {"m": 1e6, "b": 1e9}[found[2].lower()]) if found else None


def _usual(parameters: int) -> Any:
    """A Llama with about so many parameters: 12 hidden^2 a layer, as wide as 128 layers are deep, 32,000 words."""
    from transformers import AutoConfig

    layers = max(round((parameters / (12 * 128**2)) ** (1 / 3)), 1)
    hidden = max(round((parameters / (12 * layers)) ** 0.5 / 128), 1) * 128
    return AutoConfig.for_model(
        "llama", hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=hidden // 128,
        intermediate_size=hidden * 8 // 3, vocab_size=32000,
    )  # fmt: skip


def _on_meta(config: Any, trust_remote_code: bool) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def _measure(module: Any, config: Any, settings: PolicySettings, source: str, exact: bool) -> Sizes:
    """Counts of the very policy that a run would train, made on the meta device."""
    from deattrib.models.policy import CRITIC, Policy

    parameters = sum(value.numel() for value in module.parameters())
    first, last = module.get_input_embeddings(), module.get_output_embeddings()
    tied = last is None or first.weight is last.weight
    embedding = 0 if tied else first.weight.numel()
    head = first.weight.numel() if last is None else last.weight.numel()
    no_codec: Any = None  # only asked when there is text
    try:
        policy = Policy(module, no_codec, settings, seed=0)
    except ValueError as error:
        raise ConfigError(f"policy.targets {settings.targets!r} do not fit {source}: {first_line(error)}") from error
    trained = {name: value.numel() for name, value in policy.trainable().items()}
    text = config.get_text_config()
    heads = text.num_attention_heads
    return Sizes(
        source=source,
        exact=exact,
        parameters=parameters,
        embedding=embedding,
        head=head,
        adapter=sum(count for name, count in trained.items() if name.startswith("backbone.") and f".{CRITIC}." not in name),
        value_head=sum(count for name, count in trained.items() if name.startswith("value_head.")),
        critic=sum(count for name, count in trained.items() if f".{CRITIC}." in name or name.startswith("critic_backbone.")),
        hidden=text.hidden_size,
        layers=text.num_hidden_layers,
        heads=heads,
        key_value_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_width=getattr(text, "head_dim", None) or text.hidden_size // heads,
        intermediate=getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * text.hidden_size,
        vocabulary=text.vocab_size,
    )
