"""Any training state comes back as it was: structure, keys, types, bits."""

from __future__ import annotations

import json
import math
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deattrib.errors import RunError
from deattrib.runs.checkpoint import load_checkpoint, save_checkpoint
from deattrib.runs.checkpoint_tree import decode, encode


def through_disk(state: dict[Any, Any], folder: Path) -> dict[str, Any]:
    return load_checkpoint(save_checkpoint(folder, 1, state, keep=1))


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).tolist())


def assert_same(left: Any, right: Any) -> None:
    if isinstance(left, torch.Tensor):
        assert isinstance(right, torch.Tensor)
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert bits(left) == bits(right)
    elif isinstance(left, dict):
        assert type(right) is dict
        assert [(type(key), key) for key in left] == [(type(key), key) for key in right]
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert type(right) is list and len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, float):
        assert type(right) is float
        assert left.hex() == right.hex()
    else:
        assert type(left) is type(right) and left == right


DTYPES = [value for value in vars(torch).values() if isinstance(value, torch.dtype)]


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch warns about types that it is still trying out
@pytest.mark.parametrize("dtype", sorted({str(dtype) for dtype in DTYPES}))
def test_every_dtype_that_torch_can_make(tmp_path: Path, dtype: str) -> None:
    kind = getattr(torch, dtype.removeprefix("torch."))
    try:
        size = torch.empty(0, dtype=kind).element_size()
        raw = torch.arange(6 * size, dtype=torch.int64).remainder(2 if kind is torch.bool else 251).to(torch.uint8)
        tensor = raw.view(kind)
        if tensor.is_quantized or tensor.numel() != 6:
            pytest.skip("not a plain dtype")
    except (RuntimeError, TypeError, NotImplementedError):
        pytest.skip("this version of torch cannot make one")
    state = {"x": tensor.reshape(2, 3), "scalar": tensor[0], "empty": tensor[:0], "flat": tensor}
    loaded = through_disk(state, tmp_path)
    for name, value in state.items():
        assert loaded[name].dtype == kind
        assert loaded[name].shape == value.shape
        assert bits(loaded[name]) == bits(value)


def test_nan_payloads_and_negative_zero(tmp_path: Path) -> None:
    odd = torch.tensor([0x7FC00001, -0x80000000, 0x7F800000, -0x7FFFFF], dtype=torch.int32).view(torch.float32)
    state = {"tensor": odd, "floats": [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1, 1e308]}
    assert_same(state, through_disk(state, tmp_path))


def test_views_and_strange_layouts(tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "base": base,
        "row": base[1],
        "column": base[:, 2],
        "transposed": base.T,
        "expanded": torch.tensor([1.0, 2.0]).expand(3, 2),
        "flipped": base.flip(0),
        "conjugate": torch.tensor([1 + 2j, 3 - 4j]).conj(),
        "negative": torch.tensor([1 + 2j]).conj().imag,
        "channels_last": torch.arange(16.0).reshape(1, 2, 2, 4).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    loaded = through_disk(state, tmp_path)
    for name, value in state.items():
        assert torch.equal(loaded[name], value.detach()), name
    assert not loaded["parameter"].requires_grad
    base.zero_()
    assert loaded["row"].tolist() == [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]


def test_a_small_view_of_much_memory_is_stored_small(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"x": torch.zeros(1_000_000)[:2]}, keep=1)
    assert (path / "tensors.safetensors").stat().st_size < 1000


def test_tied_weights_stay_tied_and_are_stored_once(tmp_path: Path) -> None:
    weight = torch.arange(1000.0)
    path = save_checkpoint(tmp_path, 1, {"embedding": weight, "head": weight, "other": weight.clone()}, keep=1)
    assert (path / "tensors.safetensors").stat().st_size < 3 * 4000
    loaded = load_checkpoint(path)
    loaded["embedding"][0] = 7
    assert loaded["head"][0] == 7
    assert loaded["other"][0] == 0


def test_temporary_tensors_are_not_taken_for_one(tmp_path: Path) -> None:
    class Computed(OrderedDict[str, Any]):  # its values exist only while they are looked at
        def values(self) -> Any:
            return (torch.full((64,), float(index)) for index in range(len(self)))

    state = {"x": Computed.fromkeys("abcdefgh")}
    loaded = through_disk(state, tmp_path)
    assert [value[0].item() for value in loaded["x"].values()] == list(range(8))


HOSTILE = [
    "",
    "/",
    "a/b",
    "~",
    "~0",
    "~1",
    "~u",
    "int:3",
    "str:int:3",
    "str:",
    "$tensor",
    "$float",
    "$",
    "__metadata__",
    "..",
    "a\0b",
    "é\u2028",
    "\ud800",
    "\\ud800",
    "~ud800",
    "3",
    "x" * 5000,
    "nan",
]


def test_hostile_keys(tmp_path: Path) -> None:
    state: dict[Any, Any] = {key: {key: torch.tensor(index), "v": key} for index, key in enumerate(HOSTILE)}
    state |= {number: torch.tensor(-number) for number in (0, 3, -1)}
    state |= {
        2**70: "large",
        "a": {"b": torch.tensor(1.0)},
        "top": [torch.tensor(2), {"0": torch.tensor(3), 0: torch.tensor(4)}],
    }
    assert_same(state, through_disk(state, tmp_path))
    flat = {key: torch.tensor(index) for index, key in enumerate(HOSTILE)}
    assert_same(flat, through_disk(flat, tmp_path))


def test_values_that_look_like_references(tmp_path: Path) -> None:
    state = {"a": {"$tensor": "x"}, "b": {"$float": "nan"}, "c": {"int:1": 1, 1: 2, "str:int:1": 3}, "x": torch.zeros(1)}
    assert_same(state, through_disk(state, tmp_path))


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.lists(st.floats(width=32), max_size=3).map(lambda values: torch.tensor(values, dtype=torch.float32))
)
keys = st.text(max_size=4) | st.integers() | st.sampled_from(HOSTILE)
states = st.dictionaries(
    keys,
    st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8),
    max_size=4,
)


@given(states)
def test_any_state_survives(state: dict[Any, Any]) -> None:
    tree, tensors = encode(state)
    assert_same(state, decode(json.loads(json.dumps(tree, allow_nan=False)), tensors))


def test_random_number_generators(tmp_path: Path) -> None:
    generator = random.Random(5)
    torch_generator = torch.Generator().manual_seed(5)
    numpy_generator = np.random.default_rng(5)
    state = {
        "python": generator.getstate(),
        "torch": torch_generator.get_state(),
        "numpy": numpy_generator.bit_generator.state,
    }
    wanted = generator.random(), torch.rand(3, generator=torch_generator), numpy_generator.random()
    loaded = through_disk(state, tmp_path)
    version, numbers, gauss = loaded["python"]
    generator.setstate((version, tuple(numbers), gauss))
    torch_generator.set_state(loaded["torch"])
    numpy_generator.bit_generator.state = loaded["numpy"]
    assert generator.random() == wanted[0]
    assert torch.equal(torch.rand(3, generator=torch_generator), wanted[1])
    assert numpy_generator.random() == wanted[2]


def test_saving_draws_no_random_numbers(tmp_path: Path) -> None:
    before = torch.get_rng_state(), random.getstate()
    save_checkpoint(tmp_path, 1, {"x": torch.ones(3)}, keep=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adamw_goes_on_to_the_same_bits(tmp_path: Path, amsgrad: bool) -> None:
    def build() -> tuple[Any, Any, Any]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(7, 13), torch.nn.Tanh(), torch.nn.Linear(13, 1))
        groups = [{"params": model[0].parameters(), "lr": 1e-2}, {"params": model[2].parameters(), "weight_decay": 0.3}]
        optimizer = torch.optim.AdamW(groups, lr=3e-3, amsgrad=amsgrad)
        return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)

    def train(parts: Any, steps: range) -> None:
        model, optimizer, scheduler = parts
        for step in steps:
            x = torch.randn(5, 7, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            scheduler.step()

    whole = build()
    train(whole, range(10))
    first = build()
    train(first, range(6))
    saved = dict(zip(("model", "optimizer", "scheduler"), (part.state_dict() for part in first), strict=True))
    loaded = through_disk(saved, tmp_path)
    assert_same({"x": saved["optimizer"]}, {"x": loaded["optimizer"]})
    second = build()
    for part, name in zip(second, saved, strict=True):
        part.load_state_dict(loaded[name])
    train(second, range(6, 10))
    for one, other in zip(whole, second, strict=True):
        assert_same(dict(one.state_dict()), dict(other.state_dict()))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"a": {"b": [0, b"x"]}}, "'a/b/1', a bytes"),
        ({"a": np.zeros(2)}, "'a', a ndarray"),
        ({"a": {1, 2}}, "'a', a set"),
        ({"a": torch.nn.Linear(1, 1)}, "'a', a Linear"),
        ({"a": torch.eye(2).to_sparse()}, "sparse"),
        ({"a": torch.zeros(2, device="meta")}, "meta tensor"),
        ({"a": {None: 1}}, "key None in 'a'"),
        ({"a": {True: 1}}, "key True in 'a'"),
        ({"a": {1.5: 1}}, "key 1.5 in 'a'"),
        ({"a": 10**5000}, "digits"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(tmp_path: Path, state: dict[str, Any], words: str) -> None:
    with pytest.raises(RunError) as caught:
        save_checkpoint(tmp_path / "c", 1, state, keep=1)
    assert words in str(caught.value)
    assert not (tmp_path / "c").exists()


def test_a_state_that_contains_itself(tmp_path: Path) -> None:
    state: dict[str, Any] = {}
    state["self"] = state
    with pytest.raises(RunError, match="contains itself"):
        save_checkpoint(tmp_path, 1, state, keep=1)
