"""A scorer as a reward function of trl's GRPOTrainer, and attribution in the trainer's log.

    python examples/trl_reward.py [--tiny]

trl gives a sequence one number and keeps nothing else fixed: no retain rows, no counterfactual reference. For unlearning the
library's own loop is the better one; this is for experiments that live in trl already.
"""

from __future__ import annotations

from _world import arguments, config, world
from trl import GRPOTrainer

from deattrib import Attributor
from deattrib.trl import AttributionCallback, RewardFunction, grpo_config, prompt_dataset


def length(completions: list[str], **columns: object) -> list[float]:
    """A second reward beside ours: an empty answer has no attribution either, and should not win."""
    return [min(len(text.split()), 5) / 5 for text in completions]


def main() -> None:
    options = arguments(__doc__)
    settings = config(options.tiny)
    corpus, models = world(settings)
    attributor = Attributor(settings.reward, calibration=settings.calibration).fit(corpus, models.original)
    model = models.original.clone().requires_grad_(True)  # the attributor keeps the original for itself

    arguments_of_trl = grpo_config(
        str(options.output / "grpo"),
        model=model,
        max_steps=4 if options.tiny else 60,
        per_device_train_batch_size=16,
        num_generations=8,
        max_completion_length=settings.ppo.max_new_tokens,
        learning_rate=1e-3,
        reward_weights=[1.0, 0.5],
        logging_steps=2,
        save_strategy="no",
        disable_tqdm=True,
    )
    callback = AttributionCallback(attributor, every=2 if options.tiny else 20, max_new_tokens=settings.ppo.max_new_tokens)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[RewardFunction(attributor), length],
        args=arguments_of_trl,
        train_dataset=prompt_dataset(attributor),
        processing_class=models.original.tokenizer,
    )
    callback.attach(trainer)
    trainer.train()
    for entry in callback.history:
        print(f"step {entry['step']:3d}  attribution of greedy answers {entry['attribution']:.3f}")


if __name__ == "__main__":
    main()
