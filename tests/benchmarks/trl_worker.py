"""Their side of the comparison: trl's former PPOTrainer, with the reward in Python behind the module that it expects.

Runs in an environment of its own: trl 1.12 is the last release with `trl.experimental.ppo`. It needs a value model with a
backbone of its own, and two garbage collections a step are part of what its users wait for; they are told apart in the answer.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import types
from typing import Any

import torch
from tests.benchmarks.lockstep import say
from tests.benchmarks.tiny import Task, add_task, even_share, make_config, make_prompts, make_tokenizer, task


def make_reward(config: Any, prompt: int) -> torch.nn.Module:
    """The trainer reads `score(hidden states)` at the last response token; ours are the token ids."""
    from transformers.utils import ModelOutput

    class Ids(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
            return ModelOutput(hidden_states=(input_ids,))

    class Reward(torch.nn.Module):
        base_model_prefix = "ids"

        def __init__(self) -> None:
            super().__init__()
            self.ids, self.config = Ids(), config

        def score(self, ids: torch.Tensor) -> torch.Tensor:
            return even_share(ids[:, prompt:])[:, None, None].expand(*ids.shape, 1)

    return Reward()


def make_trainer(task: Task, updates: int, folder: str) -> Any:
    """trl's trainer for the same step: same sizes, batch, lengths, epochs and reward."""
    import transformers
    from datasets import Dataset
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(0)
    config = make_config(task)
    policy = LlamaForCausalLM(config)
    config_of_value = make_config(task)
    config_of_value.num_labels = 1
    arguments = PPOConfig(
        output_dir=folder, per_device_train_batch_size=task.batch, gradient_accumulation_steps=1, num_mini_batches=1,
        num_ppo_epochs=task.epochs, total_episodes=task.batch * updates, response_length=task.response,
        local_rollout_forward_batch_size=task.batch, learning_rate=1e-4, lr_scheduler_type="constant", temperature=1.0,
        kl_coef=0.05, kl_estimator="k1", stop_token=None, num_sample_generations=0, use_cpu=True, bf16=task.bf16,
        report_to="none", save_strategy="no", eval_strategy="no", disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    return PPOTrainer(
        args=arguments, processing_class=make_tokenizer(task.vocabulary), model=policy, ref_model=None,
        reward_model=make_reward(config, task.prompt), value_model=LlamaForSequenceClassification(config_of_value),
        train_dataset=Dataset.from_dict({"input_ids": make_prompts(task, max(256, 2 * task.batch))}),
    )  # fmt: skip


def main() -> None:
    """An update for every line that comes, told by a callback at its end."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_task(parser)
    parser.add_argument("--updates", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    import gc

    import transformers
    from trl.experimental.ppo import ppo_trainer

    collected = [0.0]

    def collect() -> int:
        start = time.process_time()
        found = gc.collect()
        collected[0] += time.process_time() - start
        return found

    ppo_trainer.gc = types.SimpleNamespace(collect=collect)

    class Turns(transformers.TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.turn()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            cpu, wall = time.process_time() - self.start, time.perf_counter() - self.wall
            say({"cpu": cpu, "wall": wall, "garbage_collection": collected[0]})
            self.turn()

        def turn(self) -> None:
            if not sys.stdin.readline():
                sys.exit()
            collected[0], self.start, self.wall = 0.0, time.process_time(), time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(task(given), given.updates, folder)
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        trainer.add_callback(Turns())
        trainer.train()


if __name__ == "__main__":
    main()
