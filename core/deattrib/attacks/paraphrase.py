"""Paraphrased prompts: forgetting one wording of a question is not forgetting the fact.

The paper (Lu et al. 2026, arXiv 2605.30919) also asks in other words. Only phrasings that no model was ever trained on are
asked, those that the corpus keeps for that (`Corpus.phrasings`). The curve is over the number j of phrasings per fact, of
which the best answer counts: the mean over all choices of j, as in `sampling`. Facts with fewer phrasings than j are left out
of that point.
"""

from __future__ import annotations

import numpy as np

from deattrib.attacks.base import Attack, AttackResult, AttackSubject, clusters
from deattrib.attacks.sampling import best_of
from deattrib.errors import CorpusError
from deattrib.evaluation.arrays import Array, mean_of


class Paraphrase(Attack):
    """Ask in phrasings that no model was trained on."""

    name = "paraphrase"
    source = "Lu et al. 2026, arXiv 2605.30919"
    what = "ROUGE-L recall of greedy answers to forget prompts in phrasings never trained on."
    x = "phrasings asked, best answer counts"

    def run(self, subject: AttackSubject) -> AttackResult:
        rows = subject.forget_phrasings
        if not rows:
            raise CorpusError(
                f"Attack {self.name!r}: corpus {subject.corpus.name!r} keeps no phrasings of forget facts from training; give "
                "`paraphrase_prompt` in its rows, or leave this attack out."
            )
        answers = subject.answers([row.prompt for row in rows])
        rouge, facts = subject.rouge(answers, rows), subject.facts(answers, rows)
        groups: dict[tuple[str, str], list[int]] = {}
        for index, cluster in enumerate(clusters(rows)):
            groups.setdefault(cluster, []).append(index)
        most = max(map(len, groups.values()))
        curve = [(float(j), float(np.mean(_best(rouge, groups, j)))) for j in range(1, most + 1)]
        return AttackResult(
            float(rouge.mean()),
            curve,
            f"{self.what} Here: {len(rows)} rows of {len(groups)} facts.",
            subject.interval(rouge, rows),
            {"fact_recall": mean_of(facts)},
        )


def _best(values: Array, groups: dict[tuple[str, str], list[int]], j: int) -> list[float]:
    """The best of j phrasings for each fact that has as many."""
    return [float(best_of(values[None, index], j)[0]) for index in groups.values() if len(index) >= j]
