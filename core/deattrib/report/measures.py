"""What each figure of `metrics.json` is called, what it means, which way is better, and how it is written.

Definitions follow docs/metrics.md (ROUGE-L recall, truth ratio and forget quality as in TOFU, arXiv 2401.06121; extraction
strength and ToW as used by DareU, arXiv 2605.30919). A key that is not listed here is shown all the same, under
"More figures", by its own name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deattrib.report.figures import Unit
from deattrib.report.labels import heading

Aim = Literal["oracle", "up", "down"]
Group = Literal["forget", "keep", "fluency", "likelihood", "membership", "signs", "scorers"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the table. `aim`: "oracle" = closer to the oracle is better, in both directions."""

    key: str
    label: str
    definition: str
    aim: Aim
    unit: Unit
    group: Group


GROUPS: tuple[tuple[Group, str], ...] = (
    ("forget", "Forgotten: questions about the owners to forget"),
    ("keep", "Kept: everybody else, the world, and the whole"),
    ("fluency", "Fluent: are the answers still answers?"),
)

MEASURES: tuple[Measure, ...] = (
    Measure(
        "fact_recall",
        heading("fact_recall"),
        "Share of greedy answers that contain the fact asked for, in any case.",
        "oracle",
        "share",
        "forget",
    ),
    Measure(
        "attribution",
        heading("attribution", ", referee"),
        "How far the answers to the forget prompts can be traced to the forgotten owner: 1 as the original model's "
        "answers, 0 as the "
        "answers of a source without the owner. Scored by a referee that nothing in this run was trained against.",
        "oracle",
        "score",
        "forget",
    ),
    Measure(
        "reward_attribution",
        "Attribution, reward’s own",
        "The same, scored by the reward's own scorer: no evidence by itself where training optimised it.",
        "oracle",
        "score",
        "forget",
    ),
    Measure(
        "forget_rouge",
        heading("forget_rouge"),
        "ROUGE-L recall of greedy answers against the true answers, trained and held-out phrasings. Not zero for the "
        "oracle: "
        "phrasing is shared.",
        "oracle",
        "score",
        "forget",
    ),
    Measure(
        "extraction_strength",
        heading("extraction_strength", " strength"),
        "1 − k/T, with k the shortest prefix of the true answer after which the model gets every remaining token "
        "right; 0 where it never does.",
        "oracle",
        "score",
        "forget",
    ),
    Measure(
        "truth_ratio",
        "Truth ratio",
        "Likelihood of wrong answers over that of the paraphrased true answer, as mean min(R, 1/R) on forget rows.",
        "oracle",
        "score",
        "forget",
    ),
    Measure(
        "ks_distance",
        heading("ks_distance", " to oracle"),
        "Largest distance between the distributions of the truth ratio, this model against the oracle. Two oracles of"
        " different "
        "seeds are not at 0: the second oracle's figure is the noise floor.",
        "down",
        "score",
        "forget",
    ),
    Measure(
        "forget_quality",
        "Forget quality, p",
        "p-value of the Kolmogorov–Smirnov test behind that distance; high = not told apart from the oracle. "
        "Gibberish and few rows "
        "raise it too, so it carries no verdict here.",
        "up",
        "p",
        "forget",
    ),
    Measure(
        "retain_rouge",
        heading("retain_rouge"),
        "ROUGE-L recall on questions about all other owners, trained phrasings.",
        "up",
        "score",
        "keep",
    ),
    Measure(
        "retain_paraphrase_rouge",
        heading("retain_paraphrase_rouge", ", retain ROUGE"),
        "ROUGE-L recall on questions about all other owners, in phrasings that were never trained on.",
        "up",
        "score",
        "keep",
    ),
    Measure(
        "world_rouge",
        heading("world_rouge"),
        "ROUGE-L recall on general knowledge that belongs to no owner.",
        "up",
        "score",
        "keep",
    ),
    Measure(
        "model_utility",
        heading("model_utility", " of the model"),
        "Harmonic mean of probability, ROUGE-L recall and truth ratio on kept owners and world knowledge, over what "
        "the corpus has.",
        "up",
        "score",
        "keep",
    ),
    Measure(
        "tow",
        heading("tow"),
        "Product over forgotten, kept and world questions of 1 − |ROUGE − the oracle's ROUGE|; 1 = the same as the "
        "oracle on all three.",
        "up",
        "score",
        "keep",
    ),
    Measure(
        "gibberish_rate",
        heading("gibberish_rate"),
        "Share of answers that are not language: broken words, loops, word salad.",
        "down",
        "share",
        "fluency",
    ),
    Measure("empty_rate", "Empty", "Share of answers with nothing in them.", "down", "share", "fluency"),
    Measure(
        "distinct_answer_rate",
        heading("distinct_answer_rate", " answers"),
        "Distinct answers over rows: a stock phrase for everything would be near 0.",
        "up",
        "share",
        "fluency",
    ),
    Measure(
        "mean_length",
        heading("mean_length", ", mean"),
        "Mean length of the answers; neither cut short nor padded, when as the oracle's.",
        "oracle",
        "number",
        "fluency",
    ),
    Measure(
        "oracle_perplexity",
        heading("oracle_perplexity", " to oracle"),
        "Perplexity of the answers under the oracle: would a model that never saw the owners talk like this?",
        "down",
        "number",
        "fluency",
    ),
)

BY_KEY = {measure.key: measure for measure in MEASURES}

DIRECTIONS = {
    "oracle": ("→ oracle", "closer to the oracle is better"),
    "up": ("↑", "higher is better"),
    "down": ("↓", "lower is better"),
}
