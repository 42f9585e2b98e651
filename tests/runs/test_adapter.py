"""The adapter's folder is the new one, or the old one, whatever fails while it is written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from deattrib.errors import RunError
from deattrib.models.language_model import Codec
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib.runs.adapter import save_adapter


@pytest.fixture
def policy(tiny_llama: nn.Module, tiny_codec: Codec) -> Policy:
    return Policy(tiny_llama, tiny_codec, PolicySettings(rank=2), seed=0)


def contents(path: Path) -> dict[str, bytes]:
    return {str(item.relative_to(path)): item.read_bytes() for item in sorted(path.rglob("*")) if item.is_file()}


def test_it_replaces_an_older_one_and_leaves_nothing_else(policy: Policy, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "old.txt").write_text("old")
    save_adapter(policy, tmp_path / "adapter")
    assert [item.name for item in tmp_path.iterdir()] == ["adapter"]
    names = set(contents(tmp_path / "adapter"))
    assert {"adapter_model.safetensors", "adapter_config.json"} <= names and "old.txt" not in names


@pytest.mark.parametrize("function", ["mkdir", "rename", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_what_the_system_refuses_is_named_and_the_old_one_stays(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int
) -> None:
    save_adapter(policy, tmp_path / "adapter")
    before = contents(tmp_path / "adapter")

    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), None if function == "fsync" else str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, refuse)
        with pytest.raises(RunError) as caught:
            save_adapter(policy, tmp_path / "adapter")
    assert str(tmp_path / "adapter") in str(caught.value) and os.strerror(number) in str(caught.value)
    assert contents(tmp_path / "adapter") == before
    assert [item.name for item in tmp_path.iterdir()] == ["adapter"]


def test_a_full_disk_inside_the_tensor_file_is_named(policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    def refuse(folder: Path, **_: Any) -> None:
        (folder / "adapter_model.safetensors").write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(policy.backbone, "save_pretrained", refuse)
    with pytest.raises(RunError, match=r"Cannot write .*adapter: I/O error: No space left"):
        save_adapter(policy, tmp_path / "adapter")
    assert list(tmp_path.iterdir()) == []
