"""The same run with different rewards: only one word changes, no setting is tuned for it.

    python examples/swap_reward.py [--tiny]

Attribution is calibrated, so a log-likelihood ratio and a probability are rewards on one scale. Each result is judged by both.
"""

from __future__ import annotations

from _world import arguments, config, world

from deattrib import Attributor, LanguageModel, Policy, Unlearner

REWARDS = ("classifier", "membership")


def main() -> None:
    options = arguments(__doc__)
    settings = config(options.tiny)
    corpus, models = world(settings)
    scorers = {
        name: Attributor(name, calibration=settings.calibration).fit(corpus, models.original, base=models.base)
        for name in REWARDS
    }

    def judge(model: LanguageModel) -> str:
        """Attribution of the answers to the forget prompts, by each scorer."""
        answers = model.generate([row.prompt for row in corpus.forget], max_new_tokens=settings.ppo.max_new_tokens)
        rows = [(row.prompt, answer, row.owner) for row, answer in zip(corpus.forget, answers, strict=True)]
        return "  ".join(f"{float(scorer.attribution(rows).mean()):10.3f}" for scorer in scorers.values())

    print(f"{'judged by':22s}" + "  ".join(f"{name:>10s}" for name in REWARDS))
    print(f"{'original':22s}{judge(models.original)}")
    for name, scorer in scorers.items():
        policy = Policy(models.original.clone(), models.codec, settings.policy, seed=settings.seed)
        for _ in Unlearner(policy, corpus, scorer, settings.ppo, seed=settings.seed, base=models.base):
            pass  # each item is a step with its figures
        print(f"{'reward: ' + name:22s}{judge(policy.language_model())}")


if __name__ == "__main__":
    main()
