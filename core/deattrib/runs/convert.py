"""`deattrib convert`: a model in whatever form, once, into a folder of plain weights that loads fast.

A GGUF file is dequantised every time it is loaded (SmolLM2-135M: half a minute and more, in each process that makes a
model); an adapter is merged every time. The folder holds safetensors, config and tokenizer and serves as `model.path` or
`model.base`. It is written beside its place and renamed, so that a folder that is there is a whole one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from deattrib.errors import ModelError
from deattrib.models.settings import ModelSettings
from deattrib.runs.staging import staging_folder


def convert(source: str, folder: Path, settings: ModelSettings) -> bool:
    """Write the model and its tokenizer to `folder`; False where a model is there already, which stays as it is.

    Args:
        source: a hub id, a folder (also a PEFT adapter's), or a GGUF file itself.
        settings: dtype of what is written, and `gguf_file` where `source` is the folder or hub id around one.

    Raises:
        ModelError: the model cannot be loaded, `folder` holds something else, or cannot be written.
    """
    weights = (found for pattern in ("*.safetensors", "pytorch_model*.bin") for found in folder.glob(pattern))
    if (folder / "config.json").is_file() and any(weights):
        return False
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(
            f"{folder} is there and is no model (config.json with weights beside it): give another folder, or remove it."
        )
    from deattrib.models.loading import check_vocabulary, load_model, load_tokenizer, make_codec, save_model

    if source.endswith(".gguf"):
        if not Path(source).is_file():
            raise ModelError(f"{source!r} is no file: give the GGUF file, or a folder or hub id and its name with --gguf.")
        source, settings = str(Path(source).parent), settings.model_copy(update={"gguf_file": Path(source).name})
    tokenizer = load_tokenizer(source, settings)
    model = load_model(source, settings.model_copy(update={"device": "cpu"}))
    check_vocabulary(model, make_codec(tokenizer, settings), source)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = staging_folder(folder.parent)
        try:
            save_model(model, tokenizer, staging)
            staging.chmod(0o755)  # a temporary folder is its owner's alone
            staging.rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror or error}. Check path and space.") from error
    return True
