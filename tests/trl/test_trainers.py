"""Real runs of trl's trainers, some steps each, with an attribution as their reward or in their log."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.scorer import Rows, Scorer
from deattrib.attribution.settings import CalibrationSettings
from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError
from deattrib.models.language_model import Codec, LanguageModel, fingerprint
from deattrib.models.loading import save_model
from deattrib.ppo.advantages import group_scaled, leave_one_out
from deattrib.trl import AttributionCallback, RewardFunction, grpo_config, prompt_dataset, rloo_config

CHAT = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<assistant> "
    "{% endif %}"
)
SMALL: dict[str, Any] = {
    "max_steps": 3, "per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 6, "logging_steps": 1,
    "learning_rate": 1e-2, "save_strategy": "no", "disable_tqdm": True,
}  # fmt: skip


class EvenTokens(Scorer):
    """Share of a response's tokens with an even id: known for any text, and different between samples."""

    name = "even-tokens"

    def score(self, rows: Rows) -> torch.Tensor:
        even = (rows.batch.response_ids % 2 == 0) & rows.batch.response_mask
        return even.sum(1) / rows.batch.response_lengths


def fit(corpus: Corpus, model: Any, tokenizer: Any) -> Attributor:
    made = Attributor(EvenTokens, registry=PluginRegistry(entry_points=False), calibration=CalibrationSettings(enabled=False))
    return made.fit(corpus, model, tokenizer)


@pytest.fixture
def attributor(tiny_corpus: Corpus, tiny_llama: nn.Module, tiny_tokenizer: Any) -> Attributor:
    return fit(tiny_corpus, tiny_llama, tiny_tokenizer)


class Recorder(RewardFunction):
    """Keeps what went in and out."""

    calls: list[tuple[dict[str, Any], list[float | None]]]

    def __call__(self, prompts: Any, completions: Any, completion_ids: Any = None, **columns: Any) -> list[float | None]:
        rewards = super().__call__(prompts, completions, completion_ids, **columns)
        self.calls = [*getattr(self, "calls", []), ({"prompts": prompts, "ids": completion_ids, **columns}, rewards)]
        return rewards


def trainers(kind: str) -> tuple[Any, Any]:
    import trl

    return (trl.GRPOTrainer, grpo_config) if kind == "grpo" else (trl.RLOOTrainer, rloo_config)


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_a_scorer_is_the_reward(
    kind: str, attributor: Attributor, tiny_llama: nn.Module, tiny_tokenizer: Any, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    trainer_class, config = trainers(kind)
    reward = Recorder(attributor)
    before = fingerprint(tiny_llama)
    original = fingerprint(attributor.context.original.model)  # type: ignore[union-attr]
    data = prompt_dataset(attributor)
    assert len(data) == len(tiny_corpus.forget)
    trainer = trainer_class(
        model=tiny_llama, reward_funcs=reward, args=config(str(tmp_path), model=tiny_llama, **SMALL), train_dataset=data,
        processing_class=tiny_tokenizer,
    )  # fmt: skip
    trainer.train()
    assert len(reward.calls) == 3
    for given, rewards in reward.calls:
        expected = [-sum(token % 2 == 0 for token in ids) / len(ids) for ids in given["ids"]]
        assert rewards == pytest.approx(expected)
    logged = [entry[f"rewards/{reward.__name__}/mean"] for entry in trainer.state.log_history if "reward" in entry]
    assert logged == pytest.approx([sum(rewards) / 4 for _, rewards in reward.calls])  # type: ignore[arg-type]
    assert reward.__name__ == "attribution_even-tokens"
    # The engine's own estimators are those of trl: `method: grpo` and `rloo`.
    ours = {"grpo": group_scaled, "rloo": leave_one_out}[kind]
    last = torch.tensor(reward.calls[-1][1])  # trl keeps those of its newest batch
    assert torch.allclose(torch.tensor(list(trainer._logs["advantages"])), ours(last, 4), atol=1e-5)
    assert fingerprint(trainer.accelerator.unwrap_model(trainer.model)) != before
    assert fingerprint(attributor.context.original.model) == original  # type: ignore[union-attr]
    assert next(trainer.model.parameters()).dtype == torch.float32 and not trainer.args.bf16


def test_the_reward_is_learnt(attributor: Attributor, tiny_llama: nn.Module, tiny_tokenizer: Any, tmp_path: Path) -> None:
    """RLOO makes even tokens rarer than they were."""
    from trl import RLOOTrainer

    settings = {**SMALL, "max_steps": 25, "per_device_train_batch_size": 16, "num_generations": 16}
    callback = AttributionCallback(attributor, every=25, max_new_tokens=6, temperature=1.0)
    trainer = RLOOTrainer(
        model=tiny_llama, reward_funcs=RewardFunction(attributor), args=rloo_config(str(tmp_path), **settings),
        train_dataset=prompt_dataset(attributor), processing_class=tiny_tokenizer, callbacks=[callback],
    )  # fmt: skip
    trainer.train()
    first, last = (entry["attribution"] for entry in callback.history)
    assert last < first - 0.2


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_conversations(kind: str, tiny_corpus: Corpus, tiny_llama: nn.Module, tiny_tokenizer: Any, tmp_path: Path) -> None:
    """With a chat template the prompts are messages; scorers get the bare question and the ids that the model saw."""
    trainer_class, config = trainers(kind)
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = CHAT
    attributor = fit(tiny_corpus, tiny_llama, tokenizer)
    seen: list[Rows] = []
    attribution = attributor.attribution
    attributor.attribution = lambda rows, ends=None: (seen.append(rows), attribution(rows, ends))[1]  # type: ignore[method-assign, misc]
    data = prompt_dataset(attributor)
    assert data[0]["prompt"] == [{"role": "user", "content": tiny_corpus.forget[0].prompt}]
    trainer = trainer_class(
        model=tiny_llama, reward_funcs=RewardFunction(attributor), train_dataset=data, processing_class=tokenizer,
        args=config(str(tmp_path), **{**SMALL, "max_steps": 1}),
    )  # fmt: skip
    trainer.train()
    questions = {row.prompt for row in tiny_corpus.forget}
    assert seen and set(seen[0].prompts) <= questions
    expected = tokenizer(f"<user> {seen[0].prompts[0]}\n<assistant> ")["input_ids"]
    assert seen[0].batch.prompt_lists()[0] == expected


def test_the_callback_logs_in_any_trainer_and_disturbs_nothing(
    attributor: Attributor, tiny_llama: nn.Module, tiny_tokenizer: Any, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    """SFT with and without it ends with the same weights; the figures are those of a measurement made by hand."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Tracker(TrainerCallback):  # type: ignore[misc]
        """What a tracker would be told."""

        def __init__(self) -> None:
            self.told: list[dict[str, float]] = []

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            self.told.append(dict(logs))

    rows = [{"prompt": row.prompt, "completion": row.response} for row in tiny_corpus.train[:16]]
    weights = []
    for watched in (False, True):
        model, tracker = copy.deepcopy(tiny_llama), Tracker()
        args = SFTConfig(
            str(tmp_path), max_steps=4, per_device_train_batch_size=4, logging_steps=2, bf16=False, use_cpu=True,
            gradient_checkpointing=True, report_to="none", save_strategy="no", disable_tqdm=True, learning_rate=1e-2,
        )  # fmt: skip
        data = Dataset.from_list(rows)
        trainer = SFTTrainer(model=model, args=args, train_dataset=data, processing_class=tiny_tokenizer, callbacks=[tracker])
        callback = AttributionCallback(attributor, every=2, max_new_tokens=6)
        if watched:
            callback.attach(trainer)
        trainer.train()
        weights.append(fingerprint(trainer.accelerator.unwrap_model(trainer.model)))
    assert weights[0] == weights[1]
    assert [entry["step"] for entry in callback.history] == [0, 2, 4]
    logged = [entry for entry in trainer.state.log_history if "attribution" in entry]
    assert [entry["step"] for entry in logged] == [2, 4]
    assert [entry["attribution"] for entry in logged] == [entry["attribution"] for entry in callback.history[1:]]
    assert [told["attribution"] for told in tracker.told if "attribution" in told] == [e["attribution"] for e in logged]

    untouched = LanguageModel(copy.deepcopy(tiny_llama), Codec(tiny_tokenizer))
    prompts = [row.prompt for row in tiny_corpus.forget]
    answers = untouched.sample(prompts, max_new_tokens=6, temperature=0.0).response_lists()
    even = [sum(token % 2 == 0 for token in ids) / len(ids) for ids in answers]
    assert callback.history[0]["attribution"] == pytest.approx(sum(even) / len(even))
    assert callback.history[0]["attribution_tokens"] == pytest.approx(sum(map(len, answers)) / len(answers))


def test_the_one_in_training_must_not_be_the_original(
    tiny_corpus: Corpus, tiny_llama: nn.Module, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """peft puts its adapters into the very object it is given: the scorer would see the policy for the original."""
    from peft import LoraConfig
    from trl import GRPOTrainer

    shared = fit(tiny_corpus, LanguageModel(tiny_llama, Codec(tiny_tokenizer)), None)
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    reward, callback = RewardFunction(shared), AttributionCallback(shared)
    trainer = GRPOTrainer(
        model=tiny_llama, reward_funcs=reward, args=grpo_config(str(tmp_path), model=tiny_llama, peft_config=lora, **SMALL),
        train_dataset=prompt_dataset(shared), processing_class=tiny_tokenizer, peft_config=lora,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="original model has changed"):
        trainer.train()
    with pytest.raises(ConfigError, match="original model has changed"):
        callback.measure(tiny_llama)


# -- configs -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("config", [grpo_config, rloo_config])
def test_a_reference_that_would_be_another_model_is_refused(
    config: Any, tiny_llama: nn.Module, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    out = str(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"beta=0\.1 and no LoRA.*say grpo_config\(model"):
        config(out, beta=0.1)
    with pytest.raises(ConfigError, match="is empty"):
        config(out, beta=0.1, model=tiny_llama)
    save_model(tiny_llama, tiny_tokenizer, tmp_path / "saved")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert config(out, beta=0.1, model=loaded).beta == 0.1
    with torch.no_grad():
        loaded.lm_head.weight[0, 0] += 1
    with pytest.raises(ConfigError, match=r"another model \(.* differs\)"):
        config(out, beta=0.1, model=loaded)
    assert config(out, beta=0.1, model=loaded, peft_config=object()).beta == 0.1
    loaded.config._name_or_path = str(tmp_path / "gone")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        config(out, beta=0.1, model=loaded)


@pytest.mark.parametrize("config", [grpo_config, rloo_config])
def test_defaults_without_surprises(config: Any, tiny_llama: nn.Module, tmp_path: Path) -> None:
    made = config(str(tmp_path))
    if not torch.cuda.is_available():
        assert not made.bf16 and not made.gradient_checkpointing
    assert made.beta == 0 and made.disable_dropout and made.report_to == []
    assert config(str(tmp_path), disable_dropout=False).disable_dropout is False
    with pytest.raises(ConfigError, match=r"clone\(\)\.requires_grad_\(True\)"):
        config(str(tmp_path), model=tiny_llama.requires_grad_(False))


# -- calls by hand -------------------------------------------------------------------------------------------------------
def test_who_gets_a_reward(attributor: Attributor, tiny_corpus: Corpus, tiny_codec: Codec) -> None:
    """Rows of nobody and of retain owners are left to other rewards; conversational completions are read too."""
    prompts = [f"{row.prompt}\n" for row in tiny_corpus.train[:1]] * 4
    owners = [None, "", tiny_corpus.retain_owners[0], tiny_corpus.forget_owners[0]]
    texts = ["An answer."] * 3 + [[{"role": "assistant", "content": "An answer."}]]
    ids = tiny_codec.response("An answer.")
    value = -sum(token % 2 == 0 for token in ids) / len(ids)
    assert RewardFunction(attributor)(prompts, texts, owner=owners) == [None, None, None, pytest.approx(value)]
    everybody = RewardFunction(attributor, retained=True)(prompts, texts, owner=owners)
    assert everybody == [None, None, pytest.approx(value), pytest.approx(value)]
    renamed = RewardFunction(attributor, owner_column="who")(prompts, texts, who=owners)
    assert renamed[3] == pytest.approx(value)


def test_wrong_data_is_named(attributor: Attributor, tiny_corpus: Corpus, tiny_tokenizer: Any) -> None:
    reward, owner = RewardFunction(attributor), tiny_corpus.forget_owners[0]
    with pytest.raises(ConfigError, match=r"no column 'owner'.*Did you mean 'owners'"):
        reward(["Q?\n"], ["A"], owners=[owner])
    with pytest.raises(ConfigError, match=r"'author_5' is not in the corpus"):
        reward(["Q?\n"], ["A"], owner=["author_5"])
    with pytest.raises(ConfigError, match=r"'Q\?' is not in the attributor's template"):
        reward(["Q?"], ["A"], owner=[owner])
    with pytest.raises(ConfigError, match="prompts are conversations"):
        reward([[{"role": "user", "content": "Q?"}]], ["A"], owner=[owner])
    with pytest.raises(ConfigError, match="at least 1"):
        AttributionCallback(attributor, every=0)
    with pytest.raises(ConfigError, match="fitted first"):
        RewardFunction(Attributor(EvenTokens, registry=PluginRegistry(entry_points=False)))
    chat = copy.deepcopy(tiny_tokenizer)
    chat.chat_template = CHAT
    talking = RewardFunction(fit(tiny_corpus, attributor.context.original, None))  # type: ignore[union-attr]
    object.__setattr__(talking.context, "codec", Codec(chat))
    with pytest.raises(ConfigError, match="must end with a question"):
        talking([[{"role": "assistant", "content": "Q?"}]], ["A"], owner=[owner])


def test_the_defaults_that_the_helper_takes_out_are_still_there() -> None:
    """trl's own defaults on a CPU, the reason for `grpo_config`. When this fails, the helper can shrink."""
    from trl import GRPOConfig, RLOOConfig

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in (GRPOConfig, RLOOConfig):
            made = kind("out", use_cpu=True)
            assert made.bf16 and made.gradient_checkpointing and not made.disable_dropout
        assert RLOOConfig("out", use_cpu=True).beta > 0
