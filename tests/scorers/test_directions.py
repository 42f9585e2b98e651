"""The arithmetic of gradient-linear scorers against autograd, one row and one token at a time."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.scorers.gradients import Gradient, dot, norm, random_directions, row_gradients, total
from torch import Tensor, nn

from deattrib.errors import ScorerError
from deattrib.models.batch import TokenBatch
from deattrib.models.language_model import Codec
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib_scorers._directions import Matrix, project
from deattrib_scorers._factors import gradient_factors
from deattrib_scorers._projection import features, make_projection, split
from deattrib_scorers._sites import Site, find_sites, unscaled, weight_shape
from deattrib_scorers._tangents import token_derivatives

KINDS = ["llama", "gpt2", "untied", "inside a policy", "norms over heads"]


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, tiny_llama: nn.Module, tiny_gpt2: nn.Module) -> nn.Module:
    """Tied and untied heads, both layouts of linear layers."""
    if request.param == "gpt2":
        return tiny_gpt2
    if request.param == "norms over heads":
        from transformers import Qwen3Config, Qwen3ForCausalLM

        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8}
        vocabulary = tiny_llama.config.vocab_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Qwen3ForCausalLM(
                Qwen3Config(vocab_size=vocabulary, num_key_value_heads=1, max_position_embeddings=128, **sizes)
            ).eval()
    if request.param == "untied":
        from transformers import LlamaForCausalLM

        config = copy.deepcopy(tiny_llama.config)
        config.tie_word_embeddings = False
        untied = LlamaForCausalLM(config).eval()
        untied.load_state_dict(tiny_llama.state_dict())
        with torch.no_grad():
            untied.lm_head.weight.mul_(0.7)
        return untied
    return tiny_llama


@pytest.fixture
def batch(tiny_codec: Codec) -> TokenBatch:
    """Rows of different lengths on both sides, one without a response."""
    prompts = ["Who wrote it?", "Where was the author of the long book born?", "When?", "Who?"]
    return tiny_codec.encode(prompts, ["A poet from the north.", "In a town by the sea, they say.", "Never", ""], end=True)


class Live:
    """The module as a scorer meets it: bare, or inside a policy with the adapter off."""

    def __init__(self, model: nn.Module, codec: Codec, kind: str, nudge: Any) -> None:
        self.model, self.policy = model, None
        if kind == "inside a policy":
            self.policy = Policy(copy.deepcopy(model), codec, PolicySettings(rank=2, alpha=4.0), seed=0)
            nudge(self.policy)

    def __enter__(self) -> nn.Module:
        if self.policy is None:
            return self.model
        self.view = self.policy.original().active()
        return self.view.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self.policy is not None:
            self.view.__exit__(*error)


@pytest.fixture
def live(request: pytest.FixtureRequest, model: nn.Module, tiny_codec: Codec, nudge: Any) -> Live:
    return Live(model, tiny_codec, request.node.callspec.params["model"], nudge)


def ones(log_probs: Tensor) -> Tensor:
    return torch.ones_like(log_probs)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("derivative", "tolerance"), [("forward", 1e-4), ("differences", 2e-3)])
def test_each_row_moves_along_its_own_direction(
    model: nn.Module, live: Live, batch: TokenBatch, derivative: Any, tolerance: float
) -> None:
    index = torch.tensor([1, 0, 2, 1])
    _, plain = random_directions(model, find_sites(model, ["*"]), 3)
    expected = torch.zeros(batch.response_ids.shape)
    for row, gradients in enumerate(row_gradients(model, batch)):
        for t, gradient in enumerate(gradients):
            expected[row, t] = dot(gradient, plain[int(index[row])])
    with live as module:
        sites = find_sites(module, ["*"])
        directions, _ = random_directions(model, sites, 3)
        found, log_probs = token_derivatives(module, sites, batch, directions, index, derivative)
    assert relative(found, expected) < tolerance
    assert (found[~batch.response_mask] == 0).all() and (log_probs[~batch.response_mask] == 0).all()


def test_hooks_give_the_gradients_of_autograd(model: nn.Module, live: Live, batch: TokenBatch) -> None:
    model.double()
    weights = torch.rand(batch.response_ids.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = [total(g, weights[row, : len(g)].tolist()) for row, g in enumerate(row_gradients(model, batch))]
    with live as module:
        module.double()
        sites = find_sites(module, ["*"])
        factors, _ = gradient_factors(module, sites, batch, lambda _: weights)
        assert_same_gradients(factors, sites, expected)
    assert factors.norms().tolist() == pytest.approx([norm(g) for g in expected], rel=1e-6)
    directions, plain = random_directions(model, sites, 3)
    table = torch.tensor([[dot(g, direction) for direction in plain] for g in expected], dtype=torch.float64)
    assert relative(directions.contract(factors), table) < 1e-6
    assert directions.norms().tolist() == pytest.approx([norm(direction) for direction in plain], rel=1e-6)


def assert_same_gradients(factors: Any, sites: tuple[Site, ...], expected: list[Gradient]) -> None:
    scale = max(float(value.abs().max()) for gradient in expected for value in gradient.values())
    seen = set()
    for site in sites:
        if site.weight in factors.pairs and site.weight is not None:
            out = weight_shape(site)[0]
            values = factors.dense(site.weight, out)
            values = values.mT if site.kind == "transposed" else values
            rows = torch.stack([gradient[site.weight] for gradient in expected])
            assert torch.allclose(values, rows, atol=1e-6 * scale, rtol=1e-6), site.weight
            share = torch.tensor([0.5, -1.0, 2.0, 0.1], dtype=torch.float64)
            summed = factors.summed(site.weight, out, share)
            assert torch.allclose(summed, torch.einsum("b,blr->lr", share, factors.dense(site.weight, out)), rtol=1e-9)
        for name in (site.weight, site.bias):
            seen.add(name)
            if name in factors.vectors:
                rows = torch.stack([gradient[name] for gradient in expected])
                assert torch.allclose(factors.vectors[name], rows, atol=1e-6 * scale, rtol=1e-6), name
    assert seen - {None} == set(expected[0])


@pytest.mark.parametrize("model", ["llama", "gpt2", "untied"], indirect=True)
def test_a_projected_direction_is_the_projection_of_the_gradient(model: nn.Module, batch: TokenBatch) -> None:
    model.double()
    sites = find_sites(model, ["*"])
    factors, _ = gradient_factors(model, sites, batch, ones)
    projection = make_projection(sites, 8, seed=1)
    outs = {site.weight: weight_shape(site)[0] for site in sites if site.kind != "norm"}
    by_hand = torch.cat([
        (left.T @ factors.dense(name, outs[name]) @ right).flatten(1) for name, (left, right) in projection.items()
    ], 1)  # fmt: skip
    assert torch.allclose(features(factors, projection), by_hand)
    cores = split(by_hand[:3], projection)
    small = {name: Matrix(core, *projection[name]) for name, core in cores.items()}
    large = {name: Matrix(m.left @ m.core @ m.right.T) for name, m in small.items()}  # type: ignore[operator, union-attr]
    directions = random_directions(model, sites, 3)[0]
    index = torch.tensor([0, 1, 2, 2])
    found, expected = (
        token_derivatives(model, sites, batch, type(directions)(directions.owners, matrices), index)[0]
        for matrices in (small, large)
    )
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))
    found, expected = (type(directions)(directions.owners, one).contract(factors) for one in (small, large))
    assert torch.allclose(found, expected)
    assert torch.allclose(found, by_hand @ by_hand[:3].T)


def test_a_side_no_wider_than_the_rank_is_left_whole(tiny_llama: nn.Module, batch: TokenBatch) -> None:
    sites = find_sites(tiny_llama, ["*self_attn*"])
    factors, _ = gradient_factors(tiny_llama, sites, batch, ones)
    projection = make_projection(sites, 32, seed=1)
    whole = torch.cat([factors.dense(name, 32).flatten(1) for name in projection], 1)
    assert torch.allclose(features(factors, projection), whole)
    assert torch.allclose(project(factors.pairs[name := next(iter(projection))], *projection[name]), factors.dense(name, 32))


def test_inner_products_survive_the_projection_on_average(tiny_llama: nn.Module, batch: TokenBatch) -> None:
    sites = find_sites(tiny_llama, ["*mlp*"])
    factors, _ = gradient_factors(tiny_llama, sites, batch, ones)
    exact = factors.norms()[1] ** 2
    found = torch.stack([features(factors, make_projection(sites, 8, seed=s))[1].square().sum() for s in range(60)])
    assert abs(float(found.mean() - exact)) < 4 * float(found.std()) / 60**0.5


def test_a_norm_is_read_off_its_outputs_or_asked_again(tiny_llama: nn.Module) -> None:
    """By its outputs where it only scales, by the module itself where a weight is 0 or there is a bias."""
    inputs = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    expected = inputs * torch.rsqrt(inputs.square().mean(-1, keepdim=True) + tiny_llama.config.rms_norm_eps)
    norm = tiny_llama.model.norm  # type: ignore[union-attr]
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2.0, 32))  # type: ignore[union-attr, operator]
        assert torch.allclose(unscaled(norm, inputs, norm(inputs)), expected, atol=1e-5)  # type: ignore[operator, arg-type]
        norm.weight[3] = 0.0  # type: ignore[union-attr, index, operator]
        assert torch.allclose(unscaled(norm, inputs, norm(inputs)), expected, atol=1e-5)  # type: ignore[operator, arg-type]
        layer = nn.LayerNorm(32)
        layer.bias.fill_(0.3)
        centred = nn.functional.layer_norm(inputs, (32,))
        assert torch.allclose(unscaled(layer, inputs, layer(inputs)), centred, atol=1e-5)


def test_some_layers_only(tiny_llama: nn.Module, batch: TokenBatch) -> None:
    names = {site.weight for site in find_sites(tiny_llama, ["model.layers.1.mlp.*"])}
    assert names == {f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down")}
    # a tied head is asked for by the name of the embedding, and brings both of its uses
    kinds = [site.kind for site in find_sites(tiny_llama, ["*embed_tokens*"])]
    assert kinds == ["embedding", "linear"]
    with pytest.raises(ScorerError, match=r"'\*nothing\*' matches no parameter"):
        find_sites(tiny_llama, ["*mlp*", "*nothing*"])


def test_names_are_those_of_the_bare_model(tiny_model: nn.Module, tiny_codec: Codec) -> None:
    before = [(site.weight, site.bias, site.kind) for site in find_sites(tiny_model, ["*"])]
    policy = Policy(tiny_model, tiny_codec, PolicySettings(rank=2, alpha=4.0), seed=0)
    policy.remember()
    with policy.original().active() as module:
        assert [(site.weight, site.bias, site.kind) for site in find_sites(module, ["*"])] == before


def test_an_unknown_kernel_is_named(tiny_llama: nn.Module, batch: TokenBatch) -> None:
    class Odd(torch.autograd.Function):
        @staticmethod
        def forward(inputs: Tensor) -> Tensor:
            return inputs.clone()

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            return None

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
            return gradient

    layer = tiny_llama.model.norm  # type: ignore[union-attr]
    plain = layer.forward  # type: ignore[union-attr]
    layer.forward = lambda inputs: Odd.apply(plain(inputs))  # type: ignore[union-attr]
    sites = find_sites(tiny_llama, ["*mlp*"])
    directions, _ = random_directions(tiny_llama, sites, 1)
    with pytest.raises(ScorerError, match="derivative: differences"):
        token_derivatives(tiny_llama, sites, batch, directions, torch.zeros(4, dtype=torch.int64))


def test_an_embedding_that_scales_is_left_out_and_said(tiny_codec: Codec) -> None:
    """Gemma multiplies what it looks up; a gradient of the plain table would be wrong by that factor."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=len(tiny_codec.tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, tie_word_embeddings=False,
    )  # fmt: skip
    model = Gemma3ForCausalLM(config).eval()
    with pytest.warns(UserWarning, match="embed_tokens"):
        sites = find_sites(model, ["*"])
    assert all("embed_tokens" not in (site.weight or "") for site in sites) and len(sites) > 8
