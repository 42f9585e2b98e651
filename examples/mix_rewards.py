"""A reward made of several scorers with weights, one of them your own.

    python examples/mix_rewards.py [--tiny]

What one scorer misses another may see: a classifier reads style and facts, a likelihood ratio what the model still knows, and
the class below whether words of the owner's own texts come back.
"""

from __future__ import annotations

from _world import arguments, config, world

from deattrib import Row, Rows, Scorer, ScorerContext, unlearn


class RareWords(Scorer):
    """Share of a response's words that only this owner's texts have."""

    name = "rare-words"

    def fit(self, context: ScorerContext) -> None:
        words = {owner: set(" ".join(texts).lower().split()) for owner, texts in context.texts_by_owner.items()}
        self.own = {
            owner: mine - set().union(*(theirs for other, theirs in words.items() if other != owner))
            for owner, mine in words.items()
        }

    def score(self, rows: Rows) -> list[float]:
        return [self.share(row) for row in rows]

    def share(self, row: Row) -> float:
        words = row.response.lower().split()
        return sum(word in self.own[row.owner] for word in words) / max(len(words), 1)


def main() -> None:
    options = arguments(__doc__)
    settings = config(options.tiny)
    corpus, models = world(settings)
    result = unlearn(
        corpus,
        models.original.model,
        models.original.tokenizer,
        # Names and mappings may carry a weight; classes and objects weigh 1. Weights are made to sum to 1.
        reward=[{"name": "classifier", "weight": 2}, {"name": "membership"}, RareWords],
        settings=settings.model_dump(include={"policy", "ppo", "calibration"}),
    )
    for part in result.attributor.report():
        auroc = part["calibration"]["auroc"]
        print(f"{part['name']:12s} weight {part['weight']:.2f}  AUROC on the original model's answers {auroc:.2f}")
    print("attribution per step: " + " ".join(f"{step['attribution']:.2f}" for step in result.history))


if __name__ == "__main__":
    main()
