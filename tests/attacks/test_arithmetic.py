"""Each attack's own arithmetic, by hand or a second way."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from deattrib.attacks.prefix import Prefix, cut_after
from deattrib.attacks.quantisation import Quantisation, quantise, round_to_nearest
from deattrib.attacks.relearning import Relearning, width_of
from deattrib.attacks.sampling import Sampling, best_of
from deattrib.models.forward import head_of


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_best_of_k_is_the_mean_over_all_choices(k: int) -> None:
    scores = np.random.default_rng(1).random((4, 5)).round(1)  # rounded: ties
    expected = [np.mean([max(choice) for choice in combinations(row, k)]) for row in scores.tolist()]
    assert np.allclose(best_of(scores, k), expected, atol=1e-12)


def test_best_of_keeps_rows_without_a_figure_apart() -> None:
    best = best_of(np.array([[0.0, 1.0], [np.nan, np.nan]]), 2)
    assert best[0] == 1 and np.isnan(best[1])


def test_rounding_by_hand() -> None:
    weight = torch.tensor([[7.0, -3.4, 0.0, 1.6, -0.7, 0.36, 0.0]])  # groups of four; the second is short, its scale is 0.1
    rounded = round_to_nearest(weight, bits=4, group=4)
    assert torch.allclose(rounded, torch.tensor([[7.0, -3.0, 0.0, 2.0, -0.7, 0.4, 0.0]]), atol=1e-6)
    assert torch.equal(round_to_nearest(torch.tensor([[4.0, -1.9, 2.1]]), bits=2, group=3), torch.tensor([[4.0, 0.0, 4.0]]))
    assert torch.equal(round_to_nearest(torch.zeros(2, 3), bits=4, group=2), torch.zeros(2, 3))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_rounding_has_few_values_and_errs_by_half_a_step(bits: int) -> None:
    weight = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    rounded = round_to_nearest(weight, bits=bits, group=20)
    for row in range(6):
        for start in (0, 20):
            part, now = weight[row, start : start + 20], rounded[row, start : start + 20]
            step = part.abs().max() / (2 ** (bits - 1) - 1)
            assert len(now.unique()) <= 2**bits - 1
            assert (part - now).abs().max() <= step / 2 + 1e-6
            assert now.abs().max() == pytest.approx(float(part.abs().max()), rel=1e-5)


def test_only_linear_layers_are_rounded_along_their_inputs(tiny_model: nn.Module) -> None:
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    layers = quantise(tiny_model, bits=4, group=16)
    head, changed = head_of(tiny_model), 0
    for name, module in tiny_model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is None:
            continue
        old = before[f"{name}.weight"]
        if module is head or not (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"):
            assert torch.equal(weight, old), name
            continue
        changed += 1
        inputs = old if isinstance(module, nn.Linear) else old.T
        now = weight if isinstance(module, nn.Linear) else weight.T
        step = inputs.reshape(len(inputs), -1, 16).abs().amax(-1) / 7
        error = (inputs - now).abs().reshape(len(inputs), -1, 16).amax(-1)
        assert bool((error <= step / 2 + 1e-6).all()) and not torch.equal(weight, old), name
    assert layers == changed > 0
    twice = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    quantise(tiny_model, bits=4, group=16)
    assert all(torch.allclose(value, twice[name], atol=1e-5) for name, value in tiny_model.state_dict().items())


def test_cutting_an_answer_after_some_words() -> None:
    text = "In  Turin, by the river."
    assert cut_after(text, 1) == ("In", "Turin, by the river.")
    assert cut_after(text, 2) == ("In  Turin,", "by the river.")
    assert cut_after(text, 4) == ("In  Turin, by the", "river.")
    assert [cut_after(text, words) for words in (0, 5, 9)] == [None, None, None]
    assert cut_after("", 1) is None


def test_width_of_a_model(tiny_model: nn.Module) -> None:
    assert width_of(tiny_model) == 32


@pytest.mark.parametrize(
    ("params", "values", "message"),
    [
        (Relearning.Params, {"steps": (2, 1)}, "rise"),
        (Relearning.Params, {"steps": (0, 5), "at": 5}, "above 0"),
        (Relearning.Params, {"at": 7}, "none of the steps"),
        (Sampling.Params, {"ks": (0, 2)}, "at 1 or above"),
        (Prefix.Params, {"at": 3}, "none of the words"),
        (Quantisation.Params, {"bits": (3, 8)}, "4 of the figure"),
        (Quantisation.Params, {"bits": (4, 16)}, "2 to 8"),
    ],
)
def test_settings_that_make_no_sense_are_refused(params: type, values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        params(**values)
