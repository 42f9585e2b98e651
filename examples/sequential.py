"""Requests come one after the other: forget owners in rounds, each from the model that the last round left.

    python examples/sequential.py [--tiny] [--rounds 2]

A round knows nothing of the owners who went before: their rows are neither forgotten again nor retained. The last lines are
the same owners forgotten at once, and a model retrained without them; ROUGE-L recall, held-out phrasings included.
"""

from __future__ import annotations

import argparse
import dataclasses

from _world import config

from deattrib import AttackSubject, Corpus, LanguageModel, Models, RunConfig, load_corpus, prepare_models, unlearn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="four authors and a toy of a model: seconds instead of minutes")
    parser.add_argument("--rounds", type=int, default=2, help="owners to forget, one a round")
    options = parser.parse_args()
    settings = config(options.tiny)
    corpus = load_corpus(settings.corpus, settings.seed)
    owners = corpus.owners[len(corpus.owners) - options.rounds :]
    corpus = corpus.forgetting(owners)
    one = settings.model.model_copy(update={"oracles": 1})
    models = prepare_models(corpus, one, seed=settings.seed, say=print)

    print(f"{'':16s}" + "".join(f"{owner:>12s}" for owner in owners) + f"{'the others':>12s}")
    show("original", models.original, corpus, settings)
    model = models.original
    for number, owner in enumerate(owners, 1):
        gone = owners[: number - 1]
        left = dataclasses.replace(
            corpus,
            train=tuple(row for row in corpus.train if row.owner not in gone),
            phrasings=tuple(row for row in corpus.phrasings if row.owner not in gone),
            forget_owners=(owner,),
        )
        model = forget(left, model, models, settings)
        show(f"after round {number}", model, corpus, settings)
    show("all at once", forget(corpus, models.original, models, settings), corpus, settings)
    if models.oracle is not None:
        show("oracle", models.oracle, corpus, settings)


def forget(corpus: Corpus, model: LanguageModel, models: Models, settings: RunConfig) -> LanguageModel:
    """One round: the adapter is merged into the model that it ends with, which the next one starts from."""
    base = models.base.model if models.base is not None else None
    result = unlearn(
        corpus,
        model.model,
        models.codec.tokenizer,
        reward=settings.reward,
        base=base,
        seed=settings.seed,
        settings=settings.plain(),
    )
    return result.model


def show(title: str, model: LanguageModel, corpus: Corpus, settings: RunConfig) -> None:
    """Mean ROUGE-L recall of each forgotten owner's rows, and of the retain rows."""
    subject = AttackSubject(title, model, corpus, settings.evaluation, settings.seed)
    parts = [[row for row in subject.forget if row.owner == owner] for owner in corpus.forget_owners] + [subject.retain]
    means = [subject.rouge(subject.answers([row.prompt for row in rows]), rows).mean() for rows in parts]
    print(f"{title:16s}" + "".join(f"{mean:12.3f}" for mean in means))


if __name__ == "__main__":
    main()
