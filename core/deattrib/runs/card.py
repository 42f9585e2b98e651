"""The model card of an unlearned adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deattrib.corpus.types import Corpus
from deattrib.models.language_model import Codec
from deattrib.models.loading import model_below
from deattrib.report.headline import CEILING
from deattrib.report.labels import LABELS
from deattrib.runs.atomic import atomic_write_text
from deattrib.runs.config import RunConfig
from deattrib.runs.manifest import library_versions

SHOWN = (
    "forget_rouge",
    "fact_recall",
    "attribution",
    "retain_rouge",
    "retain_paraphrase_rouge",
    "world_rouge",
    "model_utility",
)
MERGE = (
    "\nThe original is an adapter itself: merge it first (`deattrib convert ORIGINAL FOLDER`), or let "
    "`deattrib.load_language_model` or `model.path` take this folder, which merge both."
)


def write_card(
    path: Path, config: RunConfig, corpus: Corpus, metrics: dict[str, Any], *, model: str | None, codec: Codec
) -> None:
    """Markdown with what was done, how to load and ask it, the figures beside the oracle's, and what they do not promise."""
    rows = {name: row for name, row in metrics["rows"].items() if row}
    head = "| | " + " | ".join(rows) + " |\n|---|" + "---|" * len(rows)
    lines = [
        f"| {LABELS[key]} (`{key}`) | " + " | ".join(_figure(row.get(key)) for row in rows.values()) + " |" for key in SHOWN
    ]
    remote = "\nRemote model code was allowed (`trust_remote_code`).\n" if config.model.trust_remote_code else ""
    ceiling = f"\n**{CEILING}**\n" if metrics["ceiling"] else ""
    merged = MERGE if model is not None and model_below(model) != model else ""
    whole = config.policy.adapter == "full"
    library = "transformers" if whole else "peft"
    on_top = f"Load it on top of the original model with `peft.PeftModel.from_pretrained(model, folder)`.{merged}"
    loading = "A whole model: load it with `transformers.AutoModelForCausalLM.from_pretrained(folder)`." if whole else on_top
    forgotten = f"{len(corpus.forget_owners)} of {len(corpus.owners)} owners"
    text = f"""---
library_name: {library}
base_model: {model or "made from nothing by the run"}
tags: [unlearning, deattrib]
---
# Unlearned with deattrib

Forgets {forgotten} of corpus "{corpus.name}". Method: {metrics["method"]};
reward: {metrics["reward"]}; preset:
{config.preset}; seed: {config.seed}; steps: {metrics["steps"]}. deattrib {library_versions()["deattrib"]}.
{remote}{ceiling}
{head}
{chr(10).join(lines)}

{loading}
{_asking(codec)}

Low attribution is not certified removal: other questions, other attributors or further training may bring things back.
"""
    atomic_write_text(path, text)


def _asking(codec: Codec) -> str:
    if codec.chat:
        return "A prompt goes through the tokenizer's chat template: `tokenizer.apply_chat_template`."
    return f"A prompt is written as {codec.template!r}, as in training: asked otherwise, it answers what it was not trained on."


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else "–"
