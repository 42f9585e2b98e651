"""`unlearn()` on a model as trl's trainer leaves it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from deattrib import Corpus, unlearn
from deattrib.errors import ConfigError
from deattrib.models.language_model import fingerprint


def test_a_model_that_a_trainer_had_is_unlearned_like_any_other(
    tiny_llama: nn.Module, tiny_tokenizer: Any, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    """trl leaves a `forward` on the model that is bound to it: a copy with it would still call the model that was copied."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    plain = copy.deepcopy(tiny_llama)
    args = SFTConfig(str(tmp_path), bf16=False, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True)
    rows = Dataset.from_list([{"prompt": row.prompt, "completion": row.response} for row in tiny_corpus.train[:4]])
    SFTTrainer(model=tiny_llama, args=args, train_dataset=rows, processing_class=tiny_tokenizer)
    assert "forward" in tiny_llama.__dict__
    before = fingerprint(tiny_llama)
    settings = {"ppo": {"steps": 2, "batch_size": 4, "max_new_tokens": 6, "learning_rate": 0.01, "warmup": 0}}
    both = [
        unlearn(tiny_corpus, model, tiny_tokenizer, reward="none", base=model, settings=settings)
        for model in (plain, tiny_llama)
    ]
    assert both[0].history == both[1].history
    assert fingerprint(both[0].model.model) == fingerprint(both[1].model.model) != before == fingerprint(tiny_llama)


def test_a_file_says_whom_to_forget_by_the_argument(
    tiny_llama: nn.Module, tiny_tokenizer: Any, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    rows = [{"owner": row.owner, "prompt": row.prompt, "response": row.response} for row in tiny_corpus.train]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {"ppo": {"steps": 1, "batch_size": 4, "max_new_tokens": 6, "warmup": 0}}
    last = tiny_corpus.owners[-1]
    made = [
        unlearn(given, tiny_llama, tiny_tokenizer, forget=forget, reward="none", base=tiny_llama, settings=settings)
        for given, forget in ((tmp_path / "rows.jsonl", [last]), (rows, 1), (tiny_corpus.forgetting([last]), None))
    ]
    assert made[0].history == made[1].history
    assert [one.attributor.context.forget_owners for one in made if one.attributor.context] == [(last,)] * 3
    with pytest.raises(ConfigError, match=r"do not say whom to forget.*forget="):
        unlearn(tmp_path / "rows.jsonl", tiny_llama, tiny_tokenizer, reward="none")
