"""A small causal LM with LoRA and a classification head: the paper's classifier (section 4.1, appendix E.1).

It shares the policy's tokenizer, so the head can be read after every token of one pass: all prefixes for the price of
one response. Kept tokens are fed without a prompt, after one begin token. A fitted classifier is kept in the context's
cache, named by a hash of everything it was fitted from.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deattrib import Rows, ScorerContext, TokenBatch, fingerprint, load_language_model, response_logits


class CausalBackend:
    def __init__(self, params: Any, context: ScorerContext) -> None:
        self.params = params
        self.context = context

    def _model(self) -> nn.Module:
        if self.params.model is not None:
            return load_language_model(self.params.model, codec=self.context.codec, device=self.context.device).clone()
        return (self.context.base or self.context.original).clone()

    def fit(self, rows: Rows, keep: Tensor, labels: Tensor, classes: int) -> None:
        from peft import LoraConfig, get_peft_model

        device = self.context.device
        generator = torch.Generator().manual_seed(self.context.seed)
        torch.manual_seed(self.context.seed)  # adapter initialisation and dropout; the caller restores the state
        config = LoraConfig(
            r=self.params.rank,
            lora_alpha=self.params.alpha,
            lora_dropout=self.params.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        self.model: Any = get_peft_model(self._model(), config)
        self.head = nn.Linear(self.model.config.get_text_config().hidden_size, classes, device=device)
        ids, counts = _compact(rows, keep)
        path = self._path(ids, labels, classes)
        if path is None or not self._load(path):
            self._train(ids, counts, labels, generator)
            if path is not None:
                self._save(path)
        self.model.eval().requires_grad_(False)
        self.head.requires_grad_(False)

    def _train(self, ids: list[list[int]], counts: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        device = self.context.device
        trained = [value for value in self.model.parameters() if value.requires_grad] + list(self.head.parameters())
        optimiser = torch.optim.AdamW(trained, lr=self.params.learning_rate or 1e-3, weight_decay=0.0)
        criterion = nn.CrossEntropyLoss(label_smoothing=self.params.label_smoothing)
        self.model.train()
        for _ in range(self.params.epochs):
            for index in torch.randperm(len(labels), generator=generator).split(self.params.batch_size):
                logits = self._read([ids[i] for i in index.tolist()])
                target = labels[index].to(device)
                loss = criterion(logits[torch.arange(len(index)), counts[index]], target)
                if self.params.prefixes:
                    cut = (torch.rand(len(index), generator=generator) * counts[index]).long() + 1
                    prefix = logits[torch.arange(len(index)), cut.minimum(counts[index])]
                    loss = 0.5 * loss + 0.5 * criterion(prefix, target)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()

    # -- kept by content ----------------------------------------------------------------------------------------------
    def _path(self, ids: list[list[int]], labels: Tensor, classes: int) -> Path | None:
        if self.context.cache is None:
            return None
        content = {
            "rows": [ids, labels.tolist(), classes],
            "params": self.params.model_dump(mode="json"),
            "seed": self.context.seed,
            "codec": self.context.codec.fingerprint(),
            "device": self.context.device.type,
            "model": fingerprint(self.model),  # with its fresh adapter, which follows from the seed
            "versions": [version(name) for name in ("deattrib", "torch", "transformers", "peft")],
        }
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
        return self.context.cache / "scorers" / f"classifier-{key}.safetensors"

    def _tensors(self) -> dict[str, Tensor]:
        adapter = {name: value.data for name, value in self.model.named_parameters() if ".lora_" in name}
        return adapter | {f"head.{name}": value.data for name, value in self.head.named_parameters()}

    def _load(self, path: Path) -> bool:
        """Whether a fitted classifier was there; one that cannot be read, or was changed, is fitted again."""
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            return False
        try:
            with safe_open(path, framework="pt") as file:
                saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
                stored = (file.metadata() or {}).get("digest")
        except (OSError, SafetensorError):
            return False
        if stored != _digest(saved):
            return False
        mine = self._tensors()
        if saved.keys() != mine.keys() or any(saved[name].shape != value.shape for name, value in mine.items()):
            return False
        for name, value in mine.items():
            value.copy_(saved[name])
        return True

    def _save(self, path: Path) -> None:
        """Beside, then renamed: a reader sees the whole file or none. A cache that cannot be written costs a warning."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        values = {name: value.detach().cpu().contiguous() for name, value in self._tensors().items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                staged = Path(folder) / path.name
                save_file(values, staged, {"digest": _digest(values)})
                staged.replace(path)
        except (OSError, SafetensorError) as error:
            warnings.warn(
                f"The fitted classifier is not kept for another time: {path}: {error}. DEATTRIB_CACHE says where the cache is.",
                stacklevel=3,
            )

    def _read(self, ids: list[list[int]]) -> Tensor:
        """[B, T + 1, classes]: logits after 0, 1, ... T kept tokens."""
        codec = self.context.codec
        batch = TokenBatch.from_lists([[codec.eos_id]] * len(ids), [[*row, codec.eos_id] for row in ids], codec.pad_id)
        _, hidden = response_logits(self.model, batch.to(self.context.device))
        logits: Tensor = self.head(hidden.float())
        return logits

    @torch.no_grad()
    def log_probs(self, rows: Rows, keep: Tensor, ends: Tensor) -> Tensor:
        ids, _ = _compact(rows, keep)
        parts = []
        kept = torch.cat([torch.zeros(len(keep), 1, dtype=torch.int64), keep.long().cumsum(1)], 1).gather(1, ends)
        for start in range(0, len(ids), 64):
            logits = self._read(ids[start : start + 64]).cpu()
            index = kept[start : start + 64, :, None].expand(-1, -1, logits.shape[-1])
            parts.append(torch.log_softmax(logits.gather(1, index), -1))
        return torch.cat(parts)


def _digest(values: Mapping[str, Tensor]) -> str:
    """So that what was changed on the disk is not believed."""
    found = hashlib.sha256()
    for name in sorted(values):
        found.update(f"{name} {values[name].dtype} {list(values[name].shape)}".encode())
        found.update(values[name].numpy().tobytes())
    return found.hexdigest()


def _compact(rows: Rows, keep: Tensor) -> tuple[list[list[int]], Tensor]:
    """Kept ids per row, and how many."""
    ids = [
        [token for token, kept in zip(row, mask, strict=True) if kept]
        for row, mask in zip(rows.batch.response_ids.tolist(), keep.tolist(), strict=True)
    ]
    return ids, keep.sum(1)
