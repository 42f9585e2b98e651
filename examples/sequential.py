"""Requests come one after the other: forget owners in rounds, each from the model that the last round left.

    python examples/sequential.py [--tiny] [--rounds 2] [--owners 1]
    python examples/sequential.py --config examples/tofu.yaml --set corpus.path=tofu --rounds 5 --json rounds.json

A round knows nothing of the owners who went before: their rows are neither forgotten again nor retained. The last lines are
the same owners forgotten at once, and a model retrained without them; ROUGE-L recall, held-out phrasings included.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from _world import config

from deattrib import AttackSubject, Corpus, LanguageModel, Models, RunConfig, build_config, load_corpus, prepare_models, unlearn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="four authors and a toy of a model: seconds instead of minutes")
    parser.add_argument("--rounds", type=int, default=2, help="how many; the last owners of the corpus are forgotten")
    parser.add_argument("--owners", type=int, default=1, help="owners forgotten in a round")
    parser.add_argument("--config", type=Path, help="settings of a run, instead of the made-up authors'")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="override one of them")
    parser.add_argument("--json", type=Path, help="a file for the figures, to draw curves from")
    options = parser.parse_args()
    settings = (
        build_config(path=options.config, overrides=options.set) if options.config else config(options.tiny, *options.set)
    )
    corpus = load_corpus(settings.corpus, settings.seed)
    owners = corpus.owners[len(corpus.owners) - options.rounds * options.owners :]
    rounds = [owners[start : start + options.owners] for start in range(0, len(owners), options.owners)]
    corpus = corpus.forgetting(owners)
    one = settings.model.model_copy(update={"oracles": 1})
    models = prepare_models(corpus, one, seed=settings.seed, say=print)

    print(f"{'':16s}" + "".join(f"{owner:>12s}" for owner in owners) + f"{'the others':>12s}")
    figures = {"original": show("original", models.original, corpus, settings)}
    model = models.original
    for number, asking in enumerate(rounds, 1):
        gone = owners[: (number - 1) * options.owners]
        left = dataclasses.replace(
            corpus,
            train=tuple(row for row in corpus.train if row.owner not in gone),
            phrasings=tuple(row for row in corpus.phrasings if row.owner not in gone),
            forget_owners=asking,
        )
        model = forget(left, model, models, settings)
        figures[f"after round {number}"] = show(f"after round {number}", model, corpus, settings)
    figures["all at once"] = show("all at once", forget(corpus, models.original, models, settings), corpus, settings)
    if models.oracle is not None:
        figures["oracle"] = show("oracle", models.oracle, corpus, settings)
    if options.json:
        options.json.write_text(
            json.dumps({"seed": settings.seed, "columns": [*owners, "the others"], "rouge": figures}, indent=2)
        )


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


def show(title: str, model: LanguageModel, corpus: Corpus, settings: RunConfig) -> list[float]:
    """Print and return mean ROUGE-L recall of each forgotten owner's rows, and of the retain rows."""
    subject = AttackSubject(title, model, corpus, settings.evaluation, settings.seed)
    parts = [[row for row in subject.forget if row.owner == owner] for owner in corpus.forget_owners] + [subject.retain]
    means = [float(subject.rouge(subject.answers([row.prompt for row in rows]), rows).mean()) for rows in parts]
    print(f"{title:16s}" + "".join(f"{mean:12.3f}" for mean in means))
    return means


if __name__ == "__main__":
    main()
