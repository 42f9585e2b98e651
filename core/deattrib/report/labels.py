"""What the figures are called, in few words: the same in the terminal, on the pages and in tables."""

from __future__ import annotations

LABELS = {
    "forget_rouge": "forget ROUGE",
    "fact_recall": "fact recall",
    "attribution": "attribution",
    "extraction_strength": "extraction",
    "ks_distance": "KS distance",
    "retain_rouge": "retain ROUGE",
    "retain_paraphrase_rouge": "rephrased",
    "retain_fact_recall": "retain fact recall",
    "world_rouge": "world ROUGE",
    "model_utility": "utility",
    "tow": "ToW",
    "gibberish_rate": "gibberish",
    "distinct_answer_rate": "distinct",
    "mean_length": "length",
    "oracle_perplexity": "perplexity",
}
"""Key in `metrics.json` -> label."""


def heading(key: str, more: str = "") -> str:
    """The label with a capital letter, and what a page has room to say after it."""
    label = LABELS[key]
    return f"{label[:1].upper()}{label[1:]}{more}"
