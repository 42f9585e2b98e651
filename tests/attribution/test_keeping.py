"""What scorers keep of fitting: found again by its content, never believed where it was changed, and never in the way."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deattrib.attribution import keeping
from deattrib.attribution.context import ScorerContext, make_context
from deattrib.corpus.types import Corpus
from deattrib.errors import ScorerError
from deattrib.models.language_model import Codec, LanguageModel

VALUES = {
    "b": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "a": torch.arange(6).reshape(2, 3).T,  # not contiguous
    "none": torch.zeros(0, 3),
    "flag": torch.tensor(True),
}


@pytest.fixture
def context(tiny_corpus: Corpus, tiny_llama: nn.Module, tiny_codec: Codec, tmp_path: Path) -> ScorerContext:
    return make_context(tiny_corpus, LanguageModel(tiny_llama, tiny_codec), cache=tmp_path)


class Maker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, Tensor]:
        self.calls += 1
        return dict(VALUES)


def test_it_is_made_once_and_found_again_to_the_bit(context: ScorerContext) -> None:
    make = Maker()
    for found in (context.keep("mine", {"k": [1, 2]}, make), context.keep("mine", {"k": [1, 2]}, make)):
        assert found.keys() == VALUES.keys()
        assert all(torch.equal(found[name], VALUES[name]) and found[name].dtype == VALUES[name].dtype for name in VALUES)
    assert make.calls == 1


def test_other_content_is_something_else(context: ScorerContext) -> None:
    make, other = Maker(), dataclasses.replace
    context.keep("mine", 1, make)
    context.keep("mine", 2, make)
    context.keep("yours", 1, make)
    other(context, seed=1).keep("mine", 1, make)
    other(context, dtype=torch.float64).keep("mine", 1, make)
    assert make.calls == 5
    other(context, forget_owners=(), rank=1).keep("mine", 1, make)  # what the maker looks at is for it to say
    assert make.calls == 5


def test_without_a_cache_it_is_made(context: ScorerContext) -> None:
    make = Maker()
    for _ in range(2):
        assert torch.equal(dataclasses.replace(context, cache=None).keep("mine", 1, make)["a"], VALUES["a"])
    assert make.calls == 2


SIZE = sum(value.numel() * value.element_size() for value in VALUES.values())


@pytest.mark.parametrize(
    "limits",
    [
        {"LARGEST": SIZE - 1},
        {"LITTLE": SIZE - 1, "WORTH": 0},  # not so little, and sooner made than read
    ],
)
def test_what_is_too_large_is_not_kept(
    context: ScorerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(keeping, name, value)
    make = Maker()
    for _ in range(2):
        assert torch.equal(context.keep("mine", 1, make)["a"], VALUES["a"])
    assert make.calls == 2 and not (tmp_path / "scorers").exists()


def test_what_took_long_is_kept_though_it_is_large(context: ScorerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LITTLE", 0)
    times = iter([0.0, 10.0])
    monkeypatch.setattr(keeping.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(keeping, "WORTH", SIZE / 10)
    make = Maker()
    for _ in range(2):
        context.keep("mine", 1, make)
    assert make.calls == 1


def test_content_that_is_not_plain_is_refused(context: ScorerContext) -> None:
    with pytest.raises(ScorerError, match="'mine' keeps is found by its content, which must be plain values"):
        context.keep("mine", {"rows": torch.zeros(2)}, Maker())


def test_a_cache_that_cannot_be_written_costs_a_warning(context: ScorerContext, tmp_path: Path) -> None:
    (tmp_path / "scorers").write_text("in the way")
    make = Maker()
    with pytest.warns(UserWarning, match="not kept for another time.*DEATTRIB_CACHE"):
        assert torch.equal(context.keep("mine", 1, make)["a"], VALUES["a"])
    assert (tmp_path / "scorers").read_text() == "in the way"
