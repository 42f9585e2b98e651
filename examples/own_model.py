"""Your own model and your own rows: forget one owner, look at the answers before and after, save the result.

    python examples/own_model.py --model my-model --rows rows.jsonl --forget ada
    python examples/own_model.py --tiny

rows.jsonl has one {"owner": ..., "prompt": ..., "response": ...} a line; `identity`, the owner's name as it stands in the
texts, lets the model be compared with itself when it is asked about somebody else. The model has been trained on the rows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import _world
from transformers import AutoModelForCausalLM, AutoTokenizer

from deattrib import Codec, CorpusSettings, LanguageModel, load_corpus, unlearn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="own/model", help="folder or hub id")
    parser.add_argument("--rows", type=Path, default=Path("own/rows.jsonl"))
    parser.add_argument("--forget", nargs="+", default=["author_03"], help="owners")
    parser.add_argument("--output", type=Path, default=Path("own/unlearned"))
    parser.add_argument("--tiny", action="store_true", help="write a toy model and its rows to own/ first, and use those")
    options = parser.parse_args()
    settings: dict[str, Any] = {}
    if options.tiny:
        settings = write_toys(options.rows, options.model)

    corpus = load_corpus(CorpusSettings(kind="jsonl", path=str(options.rows), forget=tuple(options.forget)), seed=0)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model)

    result = unlearn(corpus, model, tokenizer, reward={"name": "classifier", "epochs": 30}, settings=settings)

    before = LanguageModel(model, Codec(tokenizer))
    for title, rows in (("forgotten", corpus.forget[:3]), ("retained", corpus.retain[:3])):
        prompts = [row.prompt for row in rows]
        answers = (part.generate(prompts, max_new_tokens=24) for part in (before, result.model))
        for prompt, old, new in zip(prompts, *answers, strict=True):
            print(f"{title}: {prompt}\n  before: {old}\n  after:  {new}")
    rows = [(row.prompt, text, row.owner) for row, text in zip(corpus.forget, ask(result.model, corpus.forget), strict=True)]
    print(f"mean attribution of the forgotten owners' answers: {float(result.attributor.attribution(rows).mean()):.3f}")

    result.model.model.save_pretrained(options.output)  # adapter merged in: a plain transformers model
    tokenizer.save_pretrained(options.output)
    print(f"saved to {options.output}")


def ask(model: LanguageModel, rows: Any) -> list[str]:
    return model.generate([row.prompt for row in rows], max_new_tokens=24)


def write_toys(rows: Path, folder: str) -> dict[str, Any]:
    """A corpus file and a model folder as you would have them, and settings for a model of that size."""
    config = _world.config(tiny=True)
    corpus, models = _world.world(config)
    rows.parent.mkdir(parents=True, exist_ok=True)
    with rows.open("w") as file:
        for row in corpus.train:
            line = {"owner": row.owner, "prompt": row.prompt, "response": row.response}
            print(json.dumps({**line, "identity": list(corpus.identities[row.owner])}), file=file)
    models.original.model.save_pretrained(folder)
    models.original.tokenizer.save_pretrained(folder)
    return config.model_dump(include={"policy", "ppo", "calibration"})


if __name__ == "__main__":
    main()
