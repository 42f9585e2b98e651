"""Fixtures for everything that finds plugins, and for the wall around scorers."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
import torch
from tests.attribution.wall import PROMPTS, RESPONSES
from torch import nn

from deattrib import Rows
from deattrib.models.language_model import Codec
from deattrib.models.scratch import make_tokenizer

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put distributions on the path as pip would; what the environment itself has installed is hidden."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delenv("DEATTRIB_PLUGINS", raising=False)
    mine: set[str] = set()
    modules_before = set(sys.modules)
    everything = metadata.entry_points

    def only_mine(*, group: str) -> list[metadata.EntryPoint]:
        return [entry for entry in everything(group=group) if entry.dist and entry.dist.name in mine]

    monkeypatch.setattr(metadata, "entry_points", only_mine)

    def put(
        name: str,
        modules: dict[str, str] | None = None,
        *,
        version: str = "1.0",
        entry_points: dict[str, str] | None = None,
        requires: tuple[str, ...] = (),
        extras: tuple[str, ...] = (),
    ) -> None:
        modules = modules or {}
        for module, source in modules.items():
            (site / f"{module}.py").write_text(textwrap.dedent(source))
        folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Provides-Extra: {extra}" for extra in extras] + [f"Requires-Dist: {item}" for item in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
        targets = entry_points if entry_points is not None else {module: module for module in modules}
        text = "\n".join(f"{key} = {value}" for key, value in targets.items())
        (folder / "entry_points.txt").write_text(f"[deattrib]\n{text}\n")
        mine.add(name)

    yield put
    for name in set(sys.modules) - modules_before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(make_tokenizer([*PROMPTS, *RESPONSES], 300))


@pytest.fixture
def rows(codec: Codec) -> Rows:
    return Rows.from_texts(codec, PROMPTS, RESPONSES, ("ada", "bo", "cy"))


@pytest.fixture
def policy() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 300), nn.BatchNorm1d(300), nn.Dropout())
