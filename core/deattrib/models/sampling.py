"""Sampling responses with a key/value cache.

From the plain tempered distribution (no top-k, no top-p): PPO's ratio compares log-probabilities of exactly that
distribution. Inverse-CDF sampling replaces `torch.multinomial`, which is several times slower on CPU at
vocabularies of thousands, and draws one uniform number per row and step from a generator of its own, so that sampling
never touches the global random state. A row's numbers do not depend on which others are still being continued.

Several samples of one prompt share its prefill. Rows that are finished leave the batch where that pays: at small models a
product of other sizes costs as much, and would round differently.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from deattrib.errors import ModelError
from deattrib.models.batch import TokenBatch
from deattrib.models.cache import with_room
from deattrib.models.ranks import ALONE, ProcessGroup
from deattrib.models.threads import is_small

KNOWN = ("torch", "transformers", "peft", "deattrib")  # whose modules keep nothing of a pass without gradients
WORTH = 0.75  # share of rows still going on at which the finished ones are dropped


@torch.no_grad()
def sample(
    model: nn.Module,
    prompt_ids: Tensor,
    prompt_lengths: Tensor,
    *,
    max_new_tokens: int,
    temperature: float,
    stop_ids: Collection[int],
    pad_id: int,
    generator: torch.Generator | None = None,
    copies: int = 1,
    drop: bool | None = None,
    whole: int | None = None,
    processes: ProcessGroup = ALONE,
) -> TokenBatch:
    """Continue each prompt until a stop token or `max_new_tokens`.

    Args:
        model: a causal LM of transformers (or one wrapped by peft); used in eval mode, its mode is restored.
        prompt_ids: [B, P] int64, left padded. prompt_lengths: [B].
        temperature: 0 is greedy (argmax), else the distribution is softmax(logits / temperature).
        stop_ids: tokens that end a row; the stop token is kept as the row's last response token.
        generator: CPU generator for the uniform numbers; needed when temperature > 0.
        copies: every prompt stands so many times in a row, and is read once.
        drop: whether finished rows leave the batch; None: unless the model is small.
        whole: rows of the batch that these are the own part of; all `processes` make as many steps; None: these are all.

    Returns:
        A TokenBatch whose response_lengths count the stop token; its columns are the steps of the row that went on longest.

    Raises:
        ModelError: prompts and new tokens do not fit the model's context. ValueError: no generator where one is needed.
    """
    device, (rows, width) = prompt_ids.device, prompt_ids.shape
    _check_room(model, width, max_new_tokens)
    draws = _needed(generator) if temperature > 0 else None
    attention = _attention(prompt_lengths, width, max_new_tokens)
    responses = torch.full((rows, max_new_tokens), pad_id, dtype=torch.int64, device=device)
    lengths, alive = torch.zeros(rows, dtype=torch.int64, device=device), torch.ones(rows, dtype=torch.bool, device=device)
    stops = torch.tensor(sorted(stop_ids), dtype=torch.int64, device=device)
    batch = _Rows(model, torch.arange(rows, device=device), drop=not is_small(model) if drop is None else drop)
    step = 0
    with eval_mode(model), _quick(model, processes):
        for step in range(max_new_tokens):
            live = batch.live
            if step == 0:
                logits = batch.begin(prompt_ids, attention[:, :width], copies=copies, room=max_new_tokens)
            else:
                last, position = responses[live, step - 1, None], (prompt_lengths[live] + step - 1)[:, None]
                logits = batch.go_on(last, attention[live, : width + step], position)
            uniform = processes.uniform(whole or rows, draws).to(device)[live] if draws is not None else None
            responses[live, step] = token = torch.where(alive[live], pick(logits, temperature, uniform), pad_id)
            lengths += alive
            # A finished row's padding stays masked out, so the cache of a row never depends on its neighbours.
            attention[:, width + step] = alive
            alive[live] &= ~torch.isin(token, stops)
            if not processes.any(bool(alive.any())):
                break
            batch.keep(alive)
    return TokenBatch(prompt_ids, prompt_lengths, responses[:, : step + 1].contiguous(), lengths)


def _quick(model: nn.Module, processes: ProcessGroup) -> contextlib.AbstractContextManager[Any]:
    """Without autograd's bookkeeping; what `sample` returns is made outside of it.

    Not for modules of somebody else's, which may keep what a pass has made (positions' sines, say) for one with gradients, nor
    for weights that are spread: the hooks that put them together need autograd.
    """
    known = all(type(module).__module__.partition(".")[0] in KNOWN for module in model.modules())
    return torch.inference_mode() if known and processes.size == 1 else torch.no_grad()  # inference_mode(False) takes gradients


def _attention(prompt_lengths: Tensor, width: int, room: int) -> Tensor:
    """[B, width + room] int64, 1 at the prompts' tokens."""
    mask = torch.arange(width, device=prompt_lengths.device) >= (width - prompt_lengths)[:, None]
    return nn.functional.pad(mask.long(), (0, room))


class _Rows:
    """The rows that are being continued, and their cache.

    Attributes:
        live: [b] int64, which of the batch's rows they are.
    """

    def __init__(self, model: nn.Module, live: Tensor, *, drop: bool) -> None:
        self.model, self.live, self.drop = model, live, drop
        self.cache: Any = None

    def begin(self, ids: Tensor, attention: Tensor, *, copies: int, room: int) -> Tensor:
        """Read the prompts, each once; logits of the first token, [B, V]."""
        once, position = slice(None, None, copies), (attention.cumsum(1) - 1).clamp(min=0)
        shared = copies > 1 and torch.equal(ids[once].repeat_interleave(copies, 0), ids)
        given = [values[once] if shared else values for values in (ids, attention, position)]
        logits, cache = _next(self.model, given[0], given[1], given[2], None)
        if shared:
            logits = logits.repeat_interleave(copies, 0)
            cache.batch_repeat_interleave(copies)
        self.cache = with_room(cache, room)
        return logits

    def go_on(self, ids: Tensor, attention: Tensor, position: Tensor) -> Tensor:
        """One token further; logits of the next, [b, V]."""
        logits, self.cache = _next(self.model, ids, attention, position, self.cache)
        return logits

    def keep(self, alive: Tensor) -> None:
        """Drop finished rows, once they are enough to be worth copying the others' cache."""
        going = alive[self.live]
        if self.drop and 0 < int(going.sum()) <= WORTH * len(going) and hasattr(self.cache, "batch_select_indices"):
            index = going.nonzero().squeeze(1)
            self.cache.batch_select_indices(index)
            self.live = self.live[index]


def _next(model: nn.Module, inputs: Tensor, attention: Tensor, position: Tensor, cache: Any) -> tuple[Tensor, Any]:
    """Logits of the next token, [B, V] float32, and the cache with this step in it."""
    output = model(
        input_ids=inputs,
        attention_mask=attention,
        position_ids=position,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1].float(), output.past_key_values


def _needed(generator: torch.Generator | None) -> torch.Generator:
    if generator is None:
        raise ValueError("sample() needs a torch.Generator when temperature > 0: the global random state is not used.")
    return generator


def _check_room(model: nn.Module, width: int, max_new_tokens: int) -> None:
    most = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if most is not None and width + max_new_tokens > most:
        raise ModelError(
            f"Prompts of up to {width} tokens and {max_new_tokens} new ones do not fit the model's context of {most}: "
            "shorten the prompts or lower max_new_tokens."
        )


def pick(logits: Tensor, temperature: float, uniform: Tensor | None) -> Tensor:
    """One token per row. logits [B, V] float32, uniform [B] in [0, 1) (None: greedy) -> [B] int64."""
    if uniform is None:
        return logits.argmax(-1)
    cumulative = torch.softmax(logits / temperature, -1).cumsum(-1)
    # Scaled by the total, so that rounding in the cumulative sum can never run past the last token.
    token = torch.searchsorted(cumulative, (uniform.to(logits.device) * cumulative[:, -1])[:, None], right=True).squeeze(1)
    return token.clamp(max=logits.shape[1] - 1)


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Switch a module to eval mode and back to what it was."""
    training = model.training
    model.eval()
    try:
        yield model
    finally:
        model.train(training)
