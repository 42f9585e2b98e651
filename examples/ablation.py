"""What the reward itself does: the same run with a classifier, with a random reward and with none.

    python examples/ablation.py [--tiny]

Noise, the reference and the anchored term damage memory too. A scorer's merit is what its row has and those of the controls
have not, with the terms that look at the forget answers switched off as here.
"""

from __future__ import annotations

from _world import arguments, config

from deattrib import run

REWARDS = ("classifier", "random", "none")
MEASURES = ("attribution", "forget_rouge", "extraction_strength", "retain_rouge", "gibberish_rate")
ALONE = ("preset=ppo",)  # nothing forgets but the reward


def main() -> None:
    options = arguments(__doc__)
    table = {}
    for reward in REWARDS:
        result = run(config(options.tiny, *ALONE, reward=reward), output=options.output / f"ablation-{reward}")
        table[reward] = result.metrics["rows"]["unlearned"]
    table = {"original": result.metrics["rows"]["original"], **table, "oracle": result.metrics["rows"]["oracle"]}
    print(f"{'':12s}" + "".join(f"{measure:>21s}" for measure in MEASURES))
    for name, row in table.items():
        print(f"{name:12s}" + "".join(f"{row[measure]:21.3f}" for measure in MEASURES))


if __name__ == "__main__":
    main()
