"""What a metric is, and what it may look at. Loads neither torch nor numpy: plugins import it.

A metric is a class with a `name`, the columns that it fills, and `compute(subject)`. What it returns per row becomes a mean
with an interval by the cluster bootstrap over facts, so that every mean in the table is resampled alike; anything else is
one number, with an interval of its own where it has one. Nothing that a metric gets may be changed by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from deattrib.corpus.types import Corpus
    from deattrib.evaluation.arrays import Array
    from deattrib.evaluation.gibberish import GibberishDetector
    from deattrib.evaluation.rows import Evaluation
    from deattrib.evaluation.settings import EvaluationSettings
    from deattrib.models.language_model import LanguageModel

Direction = Literal["oracle", "higher", "lower"]
Unit = Literal["share", "score", "p", "number"]
Part = Literal["forget", "retain", "retain_phrasings", "world"]
INFINITE = float("inf")


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a row.

    Attributes:
        key: its name in `metrics.json`.
        what: what it is, in a sentence.
        direction: "oracle": two-sided, closer to the oracle's is better; "higher" or "lower" is better.
        unit: "share" (shown in per cent), "score" in [0, 1], "p" (may be tiny), "number".
        range: the least and the largest value; infinite where there is none.
        part: whose rows the values belong to, where they come one per row.
    """

    key: str
    what: str
    direction: Direction = "oracle"
    unit: Unit = "score"
    range: tuple[float, float] = (0.0, 1.0)
    part: Part = "forget"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that is no mean over rows, with its interval; None for either where it cannot be had.

    Attributes:
        value: in the column's unit. interval: (low, high).
    """

    value: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """The model that a row of the table is about, and what it is compared with.

    Attributes:
        name: of the row: "unlearned", "original", "oracle", "oracle_second", or what `deattrib evaluate` calls it.
        model: to be asked whatever else the metric needs; it is frozen and shared, also the oracle's and the original's.
        evaluation: its greedy answers and likelihoods by part of the corpus.
        corpus: rows, owners, and who is to be forgotten.
        settings: of the evaluation; `seed` for everything random, `batch_size` for forward passes.
        detector: of gibberish, fitted on the corpus; None where that has too few texts.
        base: the model before any owner; None where the run has none, and in `Metric.measure`.
        oracle, original: the same of the model retrained without the owners, and of that before unlearning (for their own
            rows: of themselves); None where there is none, and in `Metric.measure`.
        measured: what this metric's `measure` gave on this model: arrays by name, [N] or of the metric's own shapes.
    """

    name: str
    model: LanguageModel
    evaluation: Evaluation
    corpus: Corpus
    settings: EvaluationSettings
    detector: GibberishDetector | None = None
    base: LanguageModel | None = None
    oracle: Subject | None = None
    original: Subject | None = None
    measured: Mapping[str, Array] = field(default_factory=dict)


class Metric:
    """Base class of metrics; `compute` is the only method that must be written.

    Class attributes:
        name: the word that picks it (`evaluation.metrics: [NAME]`); lower-case letters, digits, "-" and "_".
        direction, unit, range: as in `Column`, for a metric with one column. That has the metric's name with "_" for "-",
            and the first line of the class' docstring says what it is.
        columns: for a metric with several figures, each of them; `compute` then returns them by key.
        source: paper and section, or "ours".
        needs: of "oracle", "original", "base", "holdout", "wrong answers", "identities": where one is missing its columns
            are empty and nothing is called; "distribution[extra]" is checked when the plugin is loaded.

    `params`, of an instance, are its settings: what it is made with, else `Params()`.
    """

    name: ClassVar[str]
    direction: ClassVar[Direction] = "oracle"
    unit: ClassVar[Unit] = "score"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    columns: ClassVar[tuple[Column, ...]] = ()
    source: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()

    class Params(BaseModel):
        """Settings of this metric; subclass it to add some."""

        # Not as class keywords: type checkers would then want them again on every subclass.
        model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __init__(self, params: BaseModel | None = None) -> None:
        self.params: Any = params if params is not None else self.Params()

    def measure(self, subject: Subject) -> Mapping[str, Array]:
        """What one model by itself has to say, in arrays by name. Optional; kept by content for models that do not change.

        Arrays are of any shape, as [N] for one number per row; they come back as `subject.measured` in `compute`.

        It may depend on `subject.model`, its evaluation, the corpus, the settings and the metric's own, and nothing else.
        """
        return {}

    def compute(self, subject: Subject) -> Any:
        """The figure, or figures by key.

        Returns:
            one number per row of the column's part (list or array; NaN leaves a row out), one number, a `Figure`, or None
            where the data for it are not there; a mapping from keys to such, where there are several columns.
        """
        raise NotImplementedError(f"{type(self).__name__} must define compute(subject).")

    @classmethod
    def described(cls) -> tuple[Column, ...]:
        """Its columns, also where there is just the one that follows from the class attributes."""
        if cls.columns:
            return cls.columns
        what = (cls.__doc__ or "").strip().split("\n")[0]
        return (Column(cls.name.replace("-", "_"), what, cls.direction, cls.unit, cls.range),)
