"""Attribution inside trl's trainers: any scorer as a reward function, attribution in any trainer's log.

    attributor = Attributor("classifier").fit(corpus, model, tokenizer)
    rows = prompt_dataset(attributor)
    GRPOTrainer(model, reward_funcs=RewardFunction(attributor), args=grpo_config("out"), train_dataset=rows).train()

trl's rewards are one number per sequence; the library's own loop (`deattrib.unlearn`) has one per token, the retain and
the anchored terms, and a choice of references, none of which is here. What goes wrong without a word in trl is refused
here with the reason: see `grpo_config`, and `RewardFunction` on prompts and on shared models.
"""

from __future__ import annotations

from deattrib.trl.callback import AttributionCallback
from deattrib.trl.configs import grpo_config, rloo_config
from deattrib.trl.prompts import prompt_dataset
from deattrib.trl.reward import RewardFunction

__all__ = ["AttributionCallback", "RewardFunction", "grpo_config", "prompt_dataset", "rloo_config"]
