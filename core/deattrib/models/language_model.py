"""A causal language model with its tokenizer: encode, score, generate.

Everything here runs without gradients and in eval mode; what is trained is `deattrib.models.policy.Policy`.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deattrib.errors import ModelError
from deattrib.models.batch import TokenBatch, chunks
from deattrib.models.forward import gather_log_probs, response_logits
from deattrib.models.sampling import eval_mode, sample
from deattrib.models.twin import twin


class Codec:
    """Text to token ids and back, with one rule for where the prompt ends.

    Prompt and response are tokenised apart and joined as ids, so a response has the same tokens in training, in
    scoring and in sampling.

    Args:
        tokenizer: a tokenizer of transformers.
        template: how a prompt becomes the model's input, with `{prompt}` in it; None takes the tokenizer's chat
            template where it has one, else "{prompt}\\n".
        max_prompt_tokens: longer prompts are refused, naming the prompt.

    Raises:
        ModelError: the tokenizer has no end-of-sequence token, or the template no `{prompt}`.
    """

    def __init__(self, tokenizer: Any, *, template: str | None = None, max_prompt_tokens: int = 1024) -> None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                "The tokenizer has no end-of-sequence token, so no answer could ever end: set `tokenizer.eos_token`."
            )
        if template is not None and "{prompt}" not in template:
            raise ModelError(f"The prompt template {template!r} has no {{prompt}} in it.")
        self.tokenizer = tokenizer
        self.chat = template is None and bool(getattr(tokenizer, "chat_template", None))
        self.template = template or "{prompt}\n"
        self.max_prompt_tokens = max_prompt_tokens
        self.eos_id = int(tokenizer.eos_token_id)
        self.pad_id = self.eos_id if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)

    def fingerprint(self) -> str:
        """Hex digest of all that decides which ids a text becomes, and which of them mean anything by themselves."""
        tokenizer = self.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        content = [
            self.template,
            tokenizer.chat_template if self.chat else None,
            [self.eos_id, self.pad_id, tokenizer.bos_token_id],
            backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items()),
            [getattr(tokenizer, name, None) for name in ("add_bos_token", "add_eos_token")],
            sorted(tokenizer.all_special_ids),
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def prompt(self, text: str) -> list[int]:
        """Ids of one prompt, begin-of-sequence token and template included. Raises ModelError if it has none or too many."""
        if self.chat:
            message = [{"role": "user", "content": text}]
            rendered = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
            ids = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        else:
            ids = self.tokenizer(self.template.replace("{prompt}", text))["input_ids"]
            if ids and ids[-1] == self.eos_id:  # some tokenizers close what is not closed yet
                ids = ids[:-1]
        if not ids:
            raise ModelError(f"The prompt {text!r} has no tokens.")
        if len(ids) > self.max_prompt_tokens:
            raise ModelError(f"A prompt has {len(ids)} tokens, more than the {self.max_prompt_tokens} allowed: {text[:80]!r}…")
        return list(ids)

    def response(self, text: str, *, end: bool = True) -> list[int]:
        """Ids of one response, closed by the end-of-sequence token if `end`."""
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return [*ids, self.eos_id] if end else ids

    def encode(self, prompts: Sequence[str], responses: Sequence[str], *, end: bool = True) -> TokenBatch:
        """Padded ids of B prompts with their responses, on the CPU; `end`: with the end-of-sequence token.

        Raises ModelError where a prompt is over `max_prompt_tokens`.
        """
        return TokenBatch.from_lists(
            [self.prompt(text) for text in prompts], [self.response(text, end=end) for text in responses], self.pad_id
        )

    def decode(self, ids: Sequence[int]) -> str:
        """Text of response ids, without special tokens, stripped."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()


class LanguageModel:
    """A causal LM that is only read: likelihoods and samples, never gradients.

    Args:
        model: a causal LM of transformers, in place; its parameters are frozen here.
        codec: tokenizer and prompt template.
        name: what messages and tables call it.
    """

    def __init__(self, model: nn.Module, codec: Codec, *, name: str = "model") -> None:
        self.model = model.eval().requires_grad_(False)
        self.codec = codec
        self.name = name

    @property
    def tokenizer(self) -> Any:
        """The codec's."""
        return self.codec.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where rows have to be."""
        return next(self.model.parameters()).device

    def encode(self, prompts: Sequence[str], responses: Sequence[str], *, end: bool = True) -> TokenBatch:
        """Padded ids of prompts with their responses, on the model's device."""
        return self.codec.encode(prompts, responses, end=end).to(self.device)

    @contextlib.contextmanager
    def active(self) -> Iterator[nn.Module]:
        """The module to call, ready to be called; every method goes through here."""
        with eval_mode(self.model):
            yield self.model

    def apart(self) -> LanguageModel:
        """This very model for another thread: modules and tokenizer of its own around the same weights."""
        return LanguageModel(twin(self.model), copy.deepcopy(self.codec), name=self.name)

    def clone(self) -> nn.Module:
        """A copy of the module that may be changed freely."""
        return copy.deepcopy(self.model)

    @torch.no_grad()
    def logits(self, batch: TokenBatch) -> Tensor:
        """[B, T, V] float32: position t is the distribution of response token t."""
        with self.active() as model:
            return response_logits(model, batch.to(self.device))[0].float()

    @torch.no_grad()
    def token_log_probs(self, batch: TokenBatch, *, temperature: float = 1.0) -> Tensor:
        """[B, T] float32: log-probability of each response token, 0 at padding; logits are divided by `temperature` > 0."""
        batch = batch.to(self.device)
        with self.active() as model:
            values = gather_log_probs(response_logits(model, batch)[0], batch.response_ids, temperature=temperature)
        return values * batch.response_mask

    def sample(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator | None = None,
        beginnings: Sequence[str] | None = None,
    ) -> TokenBatch:
        """One batch of responses as ids, [B] rows on the model's device; see `deattrib.models.sampling.sample`.

        Args:
            prompts: B questions, without the template.
            max_new_tokens: at most this many tokens each, the end-of-sequence token included.
            temperature: > 0 samples from the plain tempered distribution, 0 is greedy.
            generator: on the CPU; needed where temperature is above 0.
            beginnings: what each response begins with; it counts as part of the prompt.

        Raises:
            ModelError: a prompt is over `max_prompt_tokens`, or does not fit the context with `max_new_tokens`.
        """
        given = [self.codec.response(text, end=False) for text in beginnings or [""] * len(prompts)]
        asked = [self.codec.prompt(text) + ids for text, ids in zip(prompts, given, strict=True)]
        batch = TokenBatch.from_lists(asked, [[]] * len(asked), self.codec.pad_id).to(self.device)
        with self.active() as model:
            return sample(
                model,
                batch.prompt_ids,
                batch.prompt_lengths,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                stop_ids=(self.codec.eos_id,),
                pad_id=self.codec.pad_id,
                generator=generator,
            )

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 64,
        beginnings: Sequence[str] | None = None,
    ) -> list[str]:
        """Texts that continue the prompts, without special tokens.

        Args:
            prompts: questions, without the template.
            max_new_tokens, temperature: as in `sample`.
            seed: of sampling; nothing is drawn at temperature 0.
            batch_size: prompts asked at a time; sampled answers depend on it.
            beginnings: what each response begins with, which is not part of the text returned; None: nothing.

        Raises:
            ModelError: as `sample`.
        """
        generator = torch.Generator().manual_seed(seed)
        pairs = list(zip(prompts, beginnings or [""] * len(prompts), strict=True))
        texts: list[str] = []
        for part in chunks(pairs, batch_size):
            batch = self.sample(
                [prompt for prompt, _ in part],
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                generator=generator,
                beginnings=[beginning for _, beginning in part],
            )
            texts += [self.codec.decode(ids) for ids in batch.response_lists()]
        return texts


def fingerprint(model: nn.Module) -> str:
    """Hex digest of all parameters and buffers of a `model` by name: equal exactly when the weights are.

    An implementation of attention that is not what transformers would choose counts, too: what a model answers depends on it.
    """
    digest = hashlib.sha256()
    chosen = getattr(getattr(model, "config", None), "_attn_implementation", None)
    if chosen not in (None, "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"):
        digest.update(f"attention:{chosen}".encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        digest.update(
            value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
        )
    return digest.hexdigest()
