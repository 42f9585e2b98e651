"""What all tests share: one thread, no network, and models so small that their numbers cost nothing."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import copy
import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.installed import build_wheel
from tests.runs.tiny import TINY
from torch import nn

from deattrib.corpus.fictitious import fictitious_corpus
from deattrib.corpus.types import Corpus
from deattrib.models.language_model import Codec
from deattrib.models.recipes import ScratchSettings
from deattrib.models.scratch import make_model, make_tokenizer

torch.set_num_threads(1)

# Whole modules go to one worker, for their fixtures. Those that take longest begin first, so that none is left alone with one
# at the end (`make test` asks xdist to keep this order).
LONGEST = (
    "runs/test_pipeline", "examples/test_examples", "audit/test_audit", "runs/test_compare", "scorers/test_exact",
    "docs/test_blocks", "runs/test_evaluation", "runs/test_attack_run", "scorers/test_contracts", "cli/test_commands",
    "test_plugin_kit", "runs/test_sweeps", "cli/test_doctor", "ppo/test_soak", "testing/test_pytest_plugin",
    "trl/test_trainers", "cli/test_compare", "audit/test_command", "methods/test_run", "cli/test_new_scorer",
    "cli/test_check", "models/test_bfloat16", "runs/test_scoring",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest modules first, the others as they were found."""
    home = Path(__file__).parent
    places = {home / f"{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def tiny_corpus() -> Corpus:
    """6 made-up authors, 6 facts each in 2 phrasings; the last two authors are to be forgotten."""
    return fictitious_corpus(seed=3, owners=6, facts=6, forget=2, shadow_owners=6, holdout_owners=1, world_repeats=1)


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_corpus: Corpus) -> Any:
    return make_tokenizer([f"{row.prompt}\n{row.response}" for row in tiny_corpus.train], 400)


@pytest.fixture(scope="session")
def tiny_codec(tiny_tokenizer: Any) -> Codec:
    return Codec(tiny_tokenizer)


@pytest.fixture(scope="session")
def _llama(tiny_tokenizer: Any) -> nn.Module:
    sizes = ScratchSettings(hidden=32, layers=2, heads=2, intermediate=64, vocabulary=400, context=128)
    model = make_model(sizes, tiny_tokenizer, seed=0)
    return _spread(model).eval()


@pytest.fixture(scope="session")
def _gpt2(tiny_tokenizer: Any) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tiny_tokenizer), n_positions=128, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config)
    return _spread(model).eval()


def _spread(model: nn.Module) -> nn.Module:
    """Weights five times as wide: with the usual tiny ones every position gives nearly the same distribution."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5.0)
    return model


@pytest.fixture
def tiny_llama(_llama: nn.Module) -> nn.Module:
    """A Llama of 2 layers with random weights; each test has its own copy."""
    return copy.deepcopy(_llama)


@pytest.fixture
def tiny_gpt2(_gpt2: nn.Module) -> nn.Module:
    """A GPT-2 (learned positions) of 2 layers with random weights; each test has its own copy."""
    return copy.deepcopy(_gpt2)


@pytest.fixture(params=["llama", "gpt2"])
def tiny_model(request: pytest.FixtureRequest) -> nn.Module:
    """Both architectures, one after the other."""
    model: nn.Module = request.getfixturevalue(f"_{request.param}")
    return copy.deepcopy(model)


@pytest.fixture(scope="session")
def _tiny_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `TINY` and the cache it filled, made once for all of xdist's workers."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny-home"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "run" / "metrics.json").is_file():
            from deattrib.runs.config import build_config
            from deattrib.runs.pipeline import run

            run(build_config(data=TINY), output=home / "run", cache=home / "cache")
    return home


@pytest.fixture(scope="session")
def tiny_run(_tiny_home: Path) -> Path:
    """The folder of a finished run of `TINY`: to be read, not written."""
    return _tiny_home / "run"


@pytest.fixture(scope="module")
def tiny_cache(_tiny_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the models of `TINY` in it, the module's own."""
    return Path(shutil.copytree(_tiny_home / "cache", tmp_path_factory.mktemp("tiny") / "cache"))


@pytest.fixture
def nudge() -> Callable[[Any], None]:
    """Change every trained parameter of a policy a little, as an optimiser step would."""

    def change(policy: Any) -> None:
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in policy.trainable().values():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)

    return change


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that users get."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    return build_wheel(tmp_path_factory.mktemp("wheel"))
