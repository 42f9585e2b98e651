"""What `--dry-run` says against torch's own counters, published sizes, and what a run does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.command_line import deattrib
from tests.runs.tiny import TINY
from torch.utils.flop_counter import FlopCounterMode

from deattrib.cli.dry_run import lines
from deattrib.corpus.settings import load_corpus
from deattrib.errors import ConfigError
from deattrib.models.batch import TokenBatch
from deattrib.models.policy import Policy
from deattrib.models.recipes import PolicySettings
from deattrib.models.settings import ModelSettings
from deattrib.runs.config import build_config
from deattrib.runs.dry_cost import Arithmetic, Work
from deattrib.runs.dry_model import Sizes, parameters_in, sizes_of
from deattrib.runs.dry_open import OPEN, open_settings
from deattrib.runs.dry_rate import DEVICES, REACHED, READ, rate_of
from deattrib.runs.dry_run import dry_run
from deattrib.runs.dry_stages import Lengths, step_work

ROOT = Path(__file__).parents[2]
PROMPT, RESPONSE, ROWS = 24, 40, 4


def llama(**more: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 300} | more  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(**sizes, attn_implementation="eager"))


@pytest.fixture
def batch() -> TokenBatch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 300, (ROWS, PROMPT + RESPONSE), generator=generator).tolist()
    return TokenBatch.from_lists([row[:PROMPT] for row in ids], [row[PROMPT:] for row in ids], 0)


def sizes_from(tmp_path: Path, policy: PolicySettings, **more: Any) -> Sizes:
    llama(**more).config.save_pretrained(tmp_path)
    sizes, _ = sizes_of(ModelSettings(path=str(tmp_path)), policy, None)
    assert sizes is not None and sizes.exact
    return sizes


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("tied", [False, True])
def test_work_is_what_torch_counts(tmp_path: Path, batch: TokenBatch, tiny_codec: Any, adapter: Any, tied: bool) -> None:
    settings = PolicySettings(rank=4, alpha=8.0, adapter=adapter)
    cost = Arithmetic(sizes_from(tmp_path, settings, tie_word_embeddings=tied), 4, full=adapter == "full")
    policy = Policy(llama(tie_word_embeddings=tied), tiny_codec, settings, seed=0)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        policy(batch)
    with FlopCounterMode(display=False) as both:
        policy(batch).logits.float().logsumexp(-1).sum().backward()
    # The last token is not fed, which the estimate leaves aside: 1 token of 64.
    assert cost.forward(ROWS, PROMPT, RESPONSE, adapter=True).flops == pytest.approx(forward.get_total_flops(), rel=0.05)
    assert cost.trained(ROWS, PROMPT, RESPONSE).flops == pytest.approx(both.get_total_flops(), rel=0.08)


def test_activations_are_about_what_torch_keeps(tmp_path: Path, batch: TokenBatch, tiny_codec: Any) -> None:
    settings = PolicySettings(rank=4, alpha=8.0)
    cost = Arithmetic(sizes_from(tmp_path, settings), 4)
    model = llama()
    model.set_attn_implementation("sdpa")
    policy = Policy(model, tiny_codec, settings, seed=0)
    weights = {value.untyped_storage()._cdata for value in policy.parameters()}
    kept: dict[int, int] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        output = policy(batch)
    assert output.logits.requires_grad
    body = cost.activations(ROWS, PROMPT + RESPONSE, 0)
    assert body == pytest.approx(sum(kept.values()), rel=0.3)


def test_counts_are_those_of_the_policy_itself(tmp_path: Path, tiny_codec: Any) -> None:
    settings = PolicySettings(rank=4, alpha=8.0, critic="separate")
    sizes = sizes_from(tmp_path, settings)
    policy = Policy(llama(), tiny_codec, settings, seed=0)
    assert sizes.trained == sum(value.numel() for value in policy.trainable().values())
    assert sizes.critic == sizes.adapter > 0
    assert sizes.parameters == sum(value.numel() for value in llama().parameters())
    wide = 4 * (64 + 64) + 4 * (64 + 32) * 2 + 4 * (64 + 64) + 3 * 4 * (64 + 176)  # query, key and value, output; MLP
    assert sizes.adapter == 3 * wide


@pytest.mark.parametrize(
    ("name", "parameters", "adapter"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", 6_738_415_616, 32 * 8 * (4 * (4096 + 4096) + 3 * (4096 + 11008))),
        ("Qwen/Qwen3-8B", 8_190_735_360, 36 * 8 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 12288))),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008, 30 * 8 * (2 * (576 + 576) + 2 * (576 + 192) + 3 * (576 + 1536))),
    ],
)
def test_models_out_of_reach_have_their_published_sizes(name: str, parameters: int, adapter: int) -> None:
    sizes, source = sizes_of(ModelSettings(base=name), PolicySettings(rank=8, alpha=16.0), None)
    assert sizes is not None and not sizes.exact
    assert "not within reach" in source and "as published" in source
    assert (sizes.parameters, sizes.adapter) == (parameters, adapter)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("a/Some-13b-chat", 13e9),
        ("Nice-1.7B", 1.7e9),
        ("x/tiny_350M", 350e6),
        ("gpt2", None),
        ("v2b3x", None),
        ("b/8bit", None),
    ],
)
def test_a_name_says_how_large_a_model_is(name: str, parameters: float | None) -> None:
    assert parameters_in(name) == parameters


def test_an_unknown_model_of_a_size_is_estimated_within_a_tenth() -> None:
    sizes, source = sizes_of(ModelSettings(base="nobody/thing-13b"), PolicySettings(), None)
    assert sizes is not None and sizes.parameters == pytest.approx(13e9, rel=0.1)
    assert "after its name" in source


def test_modules_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.targets .*no_such"):
        sizes_from(tmp_path, PolicySettings(targets=["no_such"]))


def test_time_is_bound_by_arithmetic_or_by_reading() -> None:
    rate = rate_of("h200", half=True)
    assert rate.seconds(Work(989e12, 0.0)) == pytest.approx(1 / REACHED)
    assert rate.seconds(Work(1.0, 4.8e12)) == pytest.approx(1 / READ)
    assert rate_of("h200", half=False).flops == 67e12
    assert rate_of("2.5", half=True).seconds(Work(1e12, 9e99)) == pytest.approx(1 / 2.5 / REACHED)
    assert rate_of("cpu", half=False).flops > 1e8
    for wrong in ("h20", "0", "-3", "nan", "inf"):
        with pytest.raises(ConfigError, match="--on"):
            rate_of(wrong, half=True)
    assert set(DEVICES) >= {"a100", "h100", "h200"}


def test_a_step_pays_for_the_rewards_classifiers_and_not_for_the_referee(tmp_path: Path) -> None:
    cost = Arithmetic(sizes_from(tmp_path, PolicySettings(rank=2)), 4)

    def flops(reward: Any) -> float:
        config = build_config(data={"reward": reward})
        return step_work(config, config.ppo, cost, Lengths(8, 8, 8, "")).flops

    causal = {"name": "classifier", "backbone": "causal"}
    alone = flops("membership")
    assert flops("classifier") == alone  # n-grams; its referee is a causal one
    once = flops(causal) - alone
    assert once > 0 and flops([causal, {**causal, "epochs": 1}]) - alone == pytest.approx(2 * once)
    assert flops({"name": "shuffled-owner", "scorer": causal}) - alone == pytest.approx(once)


def test_every_open_setting_is_one_of_the_config_and_has_a_value() -> None:
    for data in ({}, {"preset": "paper"}):
        config = build_config(data=data)
        told = open_settings(config)
        assert len(told) == len(OPEN)
        named = {path: value for item in told if isinstance(item["taken"], dict) for path, value in item["taken"].items()}
        assert {path for item in OPEN for path in item.settings} == set(named)
        for path, value in named.items():
            found: Any = config.plain()
            for part in path.split("."):
                found = found[part]
            assert found == value


def test_the_whole_plan_of_a_small_run_and_nothing_written(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(TINY))
    done = deattrib("run", "c.yaml", "--dry-run", "--json", "--on", "0.001", cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]
    config = build_config(data=TINY)
    corpus = load_corpus(config.corpus, config.seed)
    assert plan["corpus"]["rows"] == len(corpus.train) and plan["corpus"]["forget_rows"] == len(corpus.forget)
    assert plan["steps"] == {"unlearn": 6, "updates": 6, "rollouts": 36, "models_made": 3, "steps_per_model": 120}
    assert plan["parameters"]["frozen"] == plan["parameters"]["total"] > plan["parameters"]["trainable"] > 0
    assert plan["memory"]["peak_gb"] >= plan["memory"]["loop_gb"] > 0
    assert plan["time"]["total_seconds"] == pytest.approx(sum(plan["time"]["stages_seconds"].values()), abs=0.5)
    text = "\n".join(lines(plan))
    for wanted in ("trainable", "memory", "ppo.gamma = 1.0", "6 steps", "0.001 TFLOP/s"):
        assert wanted in text


def test_a_baseline_costs_something_too_and_less_than_the_engine() -> None:
    config = {**TINY, "ppo": {**TINY["ppo"], "steps": 6}}
    engine, baseline = (dry_run(build_config(data={**config, "method": name}), on="0.001") for name in ("dareu", "npo"))
    assert 0 < baseline["time"]["step_seconds"] < engine["time"]["step_seconds"]
    assert baseline["memory"]["parts_gb"]["activations of one update"] > 0
    assert any(note.startswith("npo: a step is counted as") for note in baseline["notes"])
    assert not any("a step is counted as" in note for note in engine["notes"])


def test_a_model_of_which_nothing_is_known_leaves_the_rest_standing(tmp_path: Path) -> None:
    rows = [
        {"owner": o, "prompt": f"What of {n}?", "response": f"{o} {n}", "identity": o} for o in ("ada", "bo") for n in range(3)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    corpus = {"kind": "jsonl", "path": str(tmp_path / "rows.jsonl"), "forget": ["bo"]}
    plan = dry_run(build_config(data={"corpus": corpus, "model": {"path": "nobody/knows"}}))
    assert plan["parameters"] is plan["memory"] is plan["time"] is None
    assert any("does not say how large" in note for note in plan["notes"])
    assert any("lengths are guessed" in note for note in plan["notes"])
    assert plan["steps"]["unlearn"] == 45 and plan["steps"]["models_made"] == 0
    assert "left open by the paper" in "\n".join(lines(plan))
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({**row, "identity": None}) for row in rows))
    with pytest.raises(ConfigError, match="2 of 2 owners have no name to swap"):  # as the run itself says
        dry_run(build_config(data={"corpus": corpus, "model": {"path": "nobody/knows"}}))
    assert dry_run(build_config(data={"corpus": corpus, "model": {"path": "nobody/knows", "base": "nobody/else"}}))


def test_flags_of_a_dry_run_and_of_a_run_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(TINY))
    for arguments, message in ((["c.yaml", "--json"], "belong to --dry-run"), (["--dry-run"], "give a config")):
        done = deattrib("run", *arguments, cwd=tmp_path, timeout=120)
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["llama2_7b_tofu_paper.yaml", "qwen3_8b_tofu.yaml"])
def test_the_papers_examples_keep_the_papers_settings(name: str) -> None:
    """Lu et al. 2026, section 5.1 and appendix D and E."""
    config = build_config(path=ROOT / "examples" / name)
    reward: Any = config.reward
    assert (reward["backbone"], reward["epochs"], reward["learning_rate"], reward["batch_size"]) == ("causal", 5, 1e-4, 16)
    assert reward["model"] == {"ll": "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "qw": "Qwen/Qwen3-0.6B"}[name[:2]]
    made = config.model.training
    assert (made.learning_rate, made.batch_size, made.epochs) == (1.5e-4, 16, 5)  # appendix E.1
    assert (config.ppo.learning_rate, config.ppo.batch_size, config.ppo.epochs, config.ppo.data_epochs) == (1.5e-4, 32, 20, 1)
    assert (config.ppo.clip, config.ppo.value_coefficient, config.ppo.temperature) == (0.2, 0.2, 0.8)
    assert (config.ppo.reward.kl, config.ppo.reward.slices, config.ppo.reward.c_seg) == (0.1, 15, 1.05)
    assert (config.ppo.retain.weight, config.ppo.anchor.hinge, config.ppo.anchor.kl) == (2.0, 0.0, 0.0)
    assert (config.model.training.lora_rank, config.policy.rank, config.policy.alpha) == (8, 8, 16.0)
    assert config.corpus.forget == "180-199"


@pytest.mark.parametrize("name", ["tofu_smollm2.yaml", "texts.yaml"])
def test_examples_on_a_pretrained_model_load(name: str) -> None:
    config = build_config(path=ROOT / "examples" / name)
    assert config.model.base == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert config.corpus.path is None and config.model.training.lora_rank == 32
    assert config.calibration.max_new_tokens >= config.ppo.max_new_tokens  # what is rolled out has a scale
