"""Two questions beyond single likelihoods: does the model predict like the oracle, and do its answers depend on the question?

`oracle-kl`: the divergence between the next-token distributions of model and oracle along the true answers to forget
questions, teacher forced. A truth ratio looks at one token per position; this looks at all of them. Distillation targets and
unlearning work compare models so (the KL of TOFU's baselines, section 3); both directions are given, since KL(oracle || model)
punishes what the model has lost and KL(model || oracle) what it says that the oracle would not.

`question-dependence`: log-likelihood per token of the model's own greedy answer under its own question, less that under a
question about another fact. It is the pointwise mutual information of question and answer under the model itself, (log p(y|q) -
log p(y|q')) / T with a shuffled question in place of the marginal (Li et al. 2016, A Diversity-Promoting Objective, section 3;
Holtzman et al. 2021, Surface Form Competition, for the same ratio as a score of answers). The field has no agreed test here;
a drop of ROUGE under shuffled questions would be near 0 for every model that has forgotten, because it does not state the
truth in the first place, so the likelihood is what can be told apart. Stock phrases and word salad give 0.
"""

from __future__ import annotations

import random

import numpy as np
from pydantic import Field

from deattrib.errors import MetricError
from deattrib.evaluation.arrays import Array
from deattrib.evaluation.likelihood import answer_likelihoods
from deattrib.evaluation.metric import INFINITE, Column, Metric, Subject
from deattrib.evaluation.signals import small_batches, token_divergences


class OracleKL(Metric):
    """Divergence from the oracle's next-token distributions along the true answers to forget questions."""

    name = "oracle-kl"
    source = "ours; token-level KL to a retrained model"
    needs = ("oracle",)
    columns = tuple(
        Column(key, f"{what} in nats per answer token, mean over forget rows.", "lower", "number", (0, INFINITE))
        for key, what in (("oracle_kl", "KL(oracle || model)"), ("oracle_kl_reverse", "KL(model || oracle)"))
    )

    def compute(self, subject: Subject) -> dict[str, Array]:
        assert subject.oracle is not None
        model, oracle, rows = subject.model, subject.oracle.model, subject.evaluation.forget.rows
        forward, backward = np.zeros(len(rows)), np.zeros(len(rows))
        if model is not oracle:
            if model.codec.fingerprint() != oracle.codec.fingerprint():
                raise MetricError("Model and oracle have other tokenizers or templates: their tokens cannot be compared.")
            for part, batch in small_batches(model, rows):
                theirs, mine = oracle.logits(batch), model.logits(batch)
                forward[part], backward[part] = token_divergences(theirs, mine.to(theirs.device), batch.response_lengths)
        return {"oracle_kl": forward, "oracle_kl_reverse": backward}


class QuestionDependence(Metric):
    """Log-likelihood per token of the model's own answers under their questions, less that under another fact's question."""

    name = "question-dependence"
    direction = "oracle"
    unit = "number"
    range = (-INFINITE, INFINITE)
    source = "Li et al. 2016, section 3 (mutual information of prompt and answer), with a shuffled prompt for the marginal"

    class Params(Metric.Params):
        """Settings of `question-dependence`."""

        rows: int = Field(100, ge=1, description="At most this many forget rows are asked, a random choice of them.")

    def measure(self, subject: Subject) -> dict[str, Array]:
        part, size = subject.evaluation.forget, subject.settings.batch_size
        seed, most = subject.settings.seed, self.params.rows
        others = other_questions(part.clusters, seed=seed)
        pairs = [(index, other) for index, other in enumerate(others) if other is not None]
        if len(pairs) > most:
            pairs = sorted(random.Random(f"question-dependence-rows-{seed}").sample(pairs, most))
        values = np.full(len(part), np.nan)
        if not pairs:
            return {"values": values}
        answers = [part.greedy[index] for index, _ in pairs]
        own, shuffled = (
            answer_likelihoods(subject.model, [part.rows[pair[side]].prompt for pair in pairs], answers, batch_size=size).loss
            for side in (0, 1)
        )
        values[[index for index, _ in pairs]] = shuffled - own
        return {"values": values}

    def compute(self, subject: Subject) -> Array:
        return subject.measured["values"]


def other_questions(clusters: tuple[tuple[str, str], ...], *, seed: int) -> list[int | None]:
    """For each row another row that asks for another fact, drawn once; None where all ask for the same."""
    rng = random.Random(f"question-dependence-{seed}")
    found: list[int | None] = []
    for own in clusters:
        options = [index for index, other in enumerate(clusters) if other != own]
        found.append(rng.choice(options) if options else None)
    return found
