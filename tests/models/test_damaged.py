"""Files of models that were cut off, are something else or come from somebody else; devices that are not there."""

from __future__ import annotations

import copy
import importlib.util
import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deattrib.errors import ModelError
from deattrib.models.language_model import Codec
from deattrib.models.loading import apply_adapter, load_model, load_tokenizer, pick_device, save_model
from deattrib.models.settings import ModelSettings
from deattrib.runs.convert import convert

CPU = ModelSettings(device="cpu")


@pytest.fixture
def model(tmp_path: Path, tiny_llama: nn.Module, tiny_codec: Codec) -> Path:
    save_model(tiny_llama, tiny_codec.tokenizer, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def adapter(model: Path, tiny_llama: nn.Module) -> Path:
    from peft import LoraConfig, get_peft_model

    folder = model.parent / "adapter"
    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    trained: Any = get_peft_model(copy.deepcopy(tiny_llama), config)  # type: ignore[arg-type]
    trained.save_pretrained(folder)
    change(folder / "adapter_config.json", base_model_name_or_path=str(model))
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    "content",
    [b'{"peft_type": "LO', b"[]", b"5", b"", '{"a": "é"}'.encode("latin-1"), b"[" * 100_000],
    ids=["cut", "list", "number", "empty", "latin-1", "deep"],
)
def test_an_adapter_whose_config_is_no_object_is_named(adapter: Path, tiny_llama: nn.Module, content: bytes) -> None:
    (adapter / "adapter_config.json").write_bytes(content)
    for load in (load_model, load_tokenizer):
        with pytest.raises(ModelError, match=r"adapter_config\.json (is no|holds a).*JSON object"):
            load(str(adapter), CPU)
    with pytest.raises(ModelError, match="cannot be put on top of the model: "):
        apply_adapter(copy.deepcopy(tiny_llama), str(adapter))


@pytest.mark.parametrize("values", [{"r": "x"}, {"r": 0}, {"target_modules": 5}, {"peft_type": "NONE"}])
def test_an_adapter_with_odd_settings_is_named(adapter: Path, tiny_llama: nn.Module, values: dict[str, Any]) -> None:
    load_model(str(adapter), CPU)
    change(adapter / "adapter_config.json", **values)
    with pytest.raises(ModelError, match=rf"The model '{adapter}' cannot be loaded: "):
        load_model(str(adapter), CPU)
    with pytest.raises(ModelError, match=rf"The adapter '{adapter}' cannot be put on top of the model: "):
        apply_adapter(copy.deepcopy(tiny_llama), str(adapter))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hidden_size": "x"}, "hidden_size"),
        ({"num_attention_heads": 0}, "ZeroDivisionError"),
        ({"model_type": 5}, "5"),
        ({"hidden_act": "nope"}, "KeyError: 'nope'"),
    ],
)
def test_a_model_with_an_odd_config_is_named(model: Path, values: dict[str, Any], said: str) -> None:
    change(model / "config.json", **values)
    with pytest.raises(ModelError, match=rf"The model '{model}' cannot be loaded: .*{said}.*\. Give a hub id"):
        load_model(str(model), CPU)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"{", b"[]", b"\xe9"], ids=["cut", "list", "latin-1"])
def test_a_damaged_tokenizer_is_named(model: Path, name: str, content: bytes) -> None:
    (model / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"The tokenizer of '{model}' cannot be loaded: .*may be cut off"):
        load_tokenizer(str(model), CPU)


def test_an_empty_tokenizer_is_named(model: Path) -> None:
    (model / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=rf"The tokenizer of '{model}' cannot be loaded: KeyError"):
        load_tokenizer(str(model), CPU)


def test_a_model_that_brings_code_runs_it_only_where_the_config_says_so(model: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    code = f"""
open({str(ran)!r}, "a").write("x")
from transformers import LlamaConfig, LlamaForCausalLM

class TheirConfig(LlamaConfig):
    model_type = "theirs"

class Theirs(LlamaForCausalLM):
    config_class = TheirConfig
"""
    (model / "theirs.py").write_text(code)
    own = {"AutoConfig": "theirs.TheirConfig", "AutoModelForCausalLM": "theirs.Theirs"}
    change(model / "config.json", model_type="theirs", architectures=["Theirs"], auto_map=own)
    with pytest.raises(ModelError, match=r"cannot be loaded: .*custom code.*`model\.trust_remote_code: true`"):
        load_model(str(model), CPU)
    assert not ran.exists()
    loaded = load_model(str(model), CPU.model_copy(update=dict.fromkeys(["trust_remote_code"], True)))
    assert type(loaded).__name__ == "Theirs" and ran.exists()


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="what is tested is that it is missing")
def test_quantised_weights_name_the_package_that_reads_them(model: Path) -> None:
    change(model / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    with pytest.raises(ModelError, match=r"a package is missing: .*pip install -U bitsandbytes"):
        load_model(str(model), CPU)


def test_a_path_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    missing = str(tmp_path / "modell")
    for load in (load_model, load_tokenizer):
        with pytest.raises(
            ModelError, match=rf"'{missing}' cannot be loaded: .* No folder '{missing}' is here .*taken for a hub id"
        ):
            load(missing, CPU)
        with pytest.raises(ModelError, match="cannot be loaded: "):
            load("é" * 300, CPU)  # no file can be called that


# -- GGUF and convert ----------------------------------------------------------------------------------------------------
def gguf_text(key: str, value: str) -> bytes:
    """One entry of a GGUF file's head: key, 8 for text, value."""
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<IQ", 8, len(value)) + value.encode()


# Version, tensors, entries.
GGUF = b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + gguf_text("general.architecture", "llama") + gguf_text("general.name", "x")


@pytest.mark.parametrize("length", [0, 3, 4, 20, 40, len(GGUF) - 1, len(GGUF)])
def test_a_gguf_file_that_was_cut_off_is_named(tmp_path: Path, length: int) -> None:
    pytest.importorskip("gguf")
    (tmp_path / "x.gguf").write_bytes(GGUF[:length])
    with pytest.raises(ModelError, match=r"x\.gguf' cannot be loaded: "):
        convert(str(tmp_path / "x.gguf"), tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


def test_without_gguf_the_package_to_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import modeling_gguf_pytorch_utils

    monkeypatch.setitem(sys.modules, "gguf", None)  # as where it is not installed
    monkeypatch.setattr(modeling_gguf_pytorch_utils, "is_gguf_available", lambda *_: False)
    (tmp_path / "x.gguf").write_bytes(GGUF)
    with pytest.raises(ModelError, match=r"x\.gguf' cannot be loaded, a package is missing: .*pip install gguf"):
        convert(str(tmp_path / "x.gguf"), tmp_path / "out", CPU)


def test_a_config_without_weights_is_no_model_that_convert_leaves_alone(model: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="is no model"):
        convert(str(model), project, CPU)
    assert [item.name for item in project.iterdir()] == ["config.json"]
    assert not convert("nowhere", model, CPU)  # a whole one stays


# -- devices -------------------------------------------------------------------------------------------------------------
def absent_devices() -> list[str]:
    cards = "cuda:99" if torch.cuda.is_available() else "cuda"
    return [cards, "cuda:99", *([] if torch.xpu.is_available() else ["xpu"]), "vulkan", "lazy"]


@pytest.mark.parametrize("wish", absent_devices())
def test_a_device_that_is_not_there_is_named(model: Path, wish: str) -> None:
    with pytest.raises(ModelError, match=rf"model\.device '{wish}' cannot be used on this machine \(.*deattrib doctor"):
        pick_device(wish)
    with pytest.raises(ModelError, match=rf"model\.device '{wish}'"):
        load_model(str(model), ModelSettings(device=wish))


@pytest.mark.parametrize("wish", ["meta", "meta:0", "", "gpu"])
def test_what_is_no_device_to_compute_on_is_refused(wish: str) -> None:
    with pytest.raises(ModelError, match=rf"model\.device '{wish.partition(':')[0]}"):
        pick_device(wish)
    assert pick_device("cpu") == torch.device("cpu")
