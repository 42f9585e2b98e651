"""Measures that the page shows folded, a group at a time: what looks closer, or from another side, than the table itself.

The keys are those of the built-in metrics (docs/metrics.md has them all) and of the evaluation's lesser figures. None
decides the headline.
"""

from __future__ import annotations

from deattrib.report.labels import heading
from deattrib.report.measures import MEASURES, Aim, Group, Measure

FOLDED_GROUPS: tuple[tuple[Group, str], ...] = (
    ("likelihood", "Likelihoods beside the oracle’s"),
    ("membership", "Membership inference"),
    ("signs", "More signs in the answers"),
)

_MEANS = ("arithmetic", "geometric")
_SIGNALS = {"loss": "loss", "zlib": "zlib", "min_k": "min-k %", "min_k_plus_plus": "min-k %++", "reference": "reference"}
_ALIKE: Aim = "oracle"


def _likelihoods() -> list[Measure]:
    found = [
        Measure("probability", "Probability", "exp of minus the mean loss of the true answers.", _ALIKE, "score", "likelihood"),
        Measure(
            "exact_memorisation",
            "Exact memorisation",
            "Share of the tokens of the true answers that the model would choose itself.",
            _ALIKE,
            "score",
            "likelihood",
        ),
    ]
    for mean in _MEANS:
        found += [
            Measure(
                f"truth_ratio_{mean}",
                f"Truth ratio, {mean}",
                f"As above, wrong answers by the {mean} mean.",
                _ALIKE,
                "score",
                "likelihood",
            ),
            Measure(
                f"ks_distance_{mean}", f"KS distance, {mean}", f"As above, {mean} truth ratios.", "down", "score", "likelihood"
            ),
            Measure(
                f"forget_quality_{mean}",
                f"Forget quality, {mean}, p",
                f"The test behind that distance, {mean} truth ratios.",
                "up",
                "p",
                "likelihood",
            ),
        ]
    counts = (("forget_quality_n", "Rows in that test"), ("forget_quality_n_oracle", "… of the oracle"))
    found += [
        Measure(key, label, "The p-value falls with the rows at an equal distance.", _ALIKE, "number", "likelihood")
        for key, label in counts
    ]
    for key, label in (("oracle_kl", "KL from the oracle"), ("oracle_kl_reverse", "… to the oracle")):
        what = "Divergence of the next-token distributions along the true answers, nats per token."
        found.append(Measure(key, label, what, "down", "number", "likelihood"))
    return found


def _membership() -> list[Measure]:
    found: list[Measure] = []
    for key, label in _SIGNALS.items():
        what = f"How well {label} tells forget rows from rows of people that nobody was trained on; .5: not at all."
        gap, leak = (
            f"Distance of that AUC to the oracle's, {label}.",
            f"That distance relative to 1 − the oracle's AUC, {label}.",
        )
        found += [
            Measure(f"membership_auc_{key}", f"AUC, {label}", what, _ALIKE, "score", "membership"),
            Measure(f"membership_gap_{key}", f"… off the oracle, {label}", gap, "down", "score", "membership"),
            Measure(f"privleak_{key}", f"privleak in %, {label}", leak, _ALIKE, "number", "membership"),
        ]
    return found


FOLDED: tuple[Measure, ...] = (
    *_likelihoods(),
    *_membership(),
    Measure(
        "question_dependence",
        "Depends on the question",
        "Log-likelihood per token of its own answers under their questions, less that under another fact's question; a stock "
        "phrase for everything has 0.",
        _ALIKE,
        "number",
        "signs",
    ),
    Measure("refusal_rate", "Refusals", "Share of answers that say that they don't know.", _ALIKE, "share", "signs"),
    Measure(
        "repetition", "Repetition", "Mean share of word pairs that occurred earlier in the answer.", "down", "share", "signs"
    ),
    Measure(
        "retain_fact_recall",
        heading("retain_fact_recall"),
        "Share of answers about all other owners that contain the fact asked for.",
        "up",
        "share",
        "signs",
    ),
)

PLACED = {measure.key for measure in (*MEASURES, *FOLDED)}
