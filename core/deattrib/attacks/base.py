"""What an attack is, and what it is given: a frozen model, the corpus, and means to ask and to count.

A figure of an attack means little by itself: a model retrained without the owners also answers in their corpus' phrasing,
and it also learns when it is trained. Every attack therefore runs with the same seeds and rows on the original (what was
there), on the oracles (what nobody could get out, twice, for the noise) and on the unlearned model, which should be as the
oracle and not as the original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict
from torch import nn

from deattrib.corpus.types import Corpus, Example
from deattrib.evaluation.arrays import Array
from deattrib.evaluation.intervals import cluster_bootstrap
from deattrib.evaluation.rouge import rouge_l_recall
from deattrib.evaluation.rows import evaluation_rows
from deattrib.evaluation.settings import EvaluationSettings
from deattrib.evaluation.text import fact_flags
from deattrib.models.language_model import LanguageModel

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class AttackResult:
    """What came of an attack on one model.

    Attributes:
        figure: the one number, in the attack's unit; None where the corpus has no data for it.
        curve: (x, y) by rising x; what x is says `Attack.x`, y is in the figure's unit. None: the attack has no curve.
        what: what the figure means, with the numbers that decided it; "": the attack's own `what`.
        interval: of the figure, (low, high), or None.
        more: other figures by name, such as the recall of facts beside ROUGE.
        curves: other curves over the same x, by name.
    """

    figure: float | None
    curve: Curve | None = None
    what: str = ""
    interval: tuple[float, float] | None = None
    more: Mapping[str, float | None] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class AttackSubject:
    """One model under attack. The model is only read: what changes weights works on `copy()`.

    Attributes:
        name: "original", "oracle", "oracle_second" or "unlearned".
        model: frozen, in eval mode, adapter merged in.
        corpus: what was trained on and who is to be forgotten.
        settings: which rows are asked, how long answers may be, how intervals are made.
        seed: everything random of an attack follows from it.
    """

    name: str
    model: LanguageModel
    corpus: Corpus
    settings: EvaluationSettings
    seed: int

    @property
    def forget(self) -> tuple[Example, ...]:
        """The forget rows of the evaluation: trained and held-out phrasings."""
        return evaluation_rows(self.corpus, self.settings)["forget"]

    @property
    def retain(self) -> tuple[Example, ...]:
        """The retain rows of the evaluation."""
        return evaluation_rows(self.corpus, self.settings)["retain"]

    @property
    def forget_phrasings(self) -> tuple[Example, ...]:
        """Those of `forget` whose phrasing no model was ever trained on."""
        held_out = set(self.corpus.forget_phrasings)
        return tuple(row for row in self.forget if row in held_out)

    def copy(self) -> nn.Module:
        """The model's weights, to be changed freely."""
        return self.model.clone()

    def answers(
        self,
        prompts: Sequence[str],
        *,
        model: LanguageModel | None = None,
        temperature: float = 0.0,
        beginnings: Sequence[str] | None = None,
        seed: int | None = None,
    ) -> list[str]:
        """One answer per prompt.

        Args:
            prompts: questions, without a template.
            model: who answers; None: the model itself.
            temperature: 0 is greedy; above it is sampled from.
            beginnings: what each answer begins with, put into the model's mouth; not part of what comes back.
            seed: of sampling; None: the subject's.
        """
        return (model or self.model).generate(
            prompts,
            max_new_tokens=self.settings.max_new_tokens,
            temperature=temperature,
            seed=self.seed if seed is None else seed,
            batch_size=self.settings.batch_size,
            beginnings=beginnings,
        )

    def rouge(self, answers: Sequence[str], rows: Sequence[Example]) -> Array:
        """ROUGE-L recall of each answer against its row's true one, [N], in [0, 1]."""
        return np.array(rouge_l_recall(answers, [row.response for row in rows]), dtype=np.float64)

    def facts(self, answers: Sequence[str], rows: Sequence[Example]) -> Array:
        """1 where an answer contains its row's fact, else 0, [N]; NaN where the row has none."""
        return fact_flags(answers, [row.fact for row in rows])

    def interval(self, values: Array, rows: Sequence[Example]) -> tuple[float, float] | None:
        """Interval of the mean of `values` [N], one per row, of the level in `settings`; None where it cannot be had.

        Facts are drawn anew, not rows, which stand or fall together.
        """
        chosen = self.settings
        low, high = cluster_bootstrap(
            values, clusters(rows), seed=chosen.seed, samples=chosen.interval_samples, level=chosen.interval_level
        )
        return None if np.isnan(low) else (low, high)


class Attack:
    """One way of getting forgotten data out of a model. Derive, document in one sentence, and write `run`.

    Attributes:
        name: what `attacks: [NAME]` says.
        source: where the attack was published.
        what: what the figure means, in one sentence.
        unit: of the figure.
        x: what the curve is over.

    `params`, of an instance, are its settings: what it is made with, else `Params()`.
    """

    name: ClassVar[str]
    source: ClassVar[str] = ""
    what: ClassVar[str] = ""
    unit: ClassVar[str] = "ROUGE-L recall"
    x: ClassVar[str] = ""

    class Params(BaseModel):
        """Settings: fields with defaults; misspelt ones are refused."""

        # Not as class keywords: type checkers would then want them again on every subclass.
        model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __init__(self, params: BaseModel | None = None) -> None:
        self.params: Any = params if params is not None else self.Params()

    def run(self, subject: AttackSubject) -> AttackResult:
        """Attack one model.

        Must not change `subject.model` (checked: the result is then refused). Whatever it raises becomes the reason for
        a missing figure; the run goes on.
        """
        raise NotImplementedError(f"Attack {self.name!r} must write run(subject).")


def clusters(rows: Sequence[Example]) -> list[tuple[str, str]]:
    """Owner and fact of each row; a row without fact_id is a cluster of its own, named by its prompt and answer."""
    return [(row.owner, row.fact_id or f"{row.prompt}\n{row.response}") for row in rows]
