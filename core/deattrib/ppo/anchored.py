"""The anchored term: an off-policy loss on the forget answers themselves.

On-policy de-attribution never visits the owner's true sentences once the model has stopped saying them, so their
likelihood stays. For every token of a forget answer this pushes log pi(y_t | q, y_<t) down to its counterfactual level
and no further, and says where the mass should go instead: KL(pi_cf(.|q') || pi(.|q)). The counterfactual question is
drawn anew for every row and update.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deattrib.attribution.scorer import Rows
from deattrib.corpus.types import Example
from deattrib.errors import ConfigError
from deattrib.models.batch import TokenBatch
from deattrib.models.forward import gather_log_probs
from deattrib.models.identities import tokens_from
from deattrib.models.language_model import Codec
from deattrib.models.policy import Policy
from deattrib.models.ranks import ALONE, ProcessGroup
from deattrib.ppo.data import Shared, graft, thin
from deattrib.ppo.losses import anchored_hinge, masked_mean, token_kl
from deattrib.ppo.parts import by_length
from deattrib.ppo.reference import Reference
from deattrib.ppo.settings import AnchorSettings


@dataclass(frozen=True, slots=True, eq=False)
class AnchoredBatch:
    """Forget answers and what the frozen models make of them; nothing here depends on the policy.

    Attributes:
        rows: the texts, with their ids on the policy's device in `rows.batch`.
        target: [B, T, V] float32, the distribution that says where the mass goes.
        level: [B, T] float32, log-probability down to which a written token is lowered.
        opening: [B, V], the first token's distribution, nothing lowered in it.
        kept: [B, T] bool, the tokens that count.
        tokens, whole: how many tokens count and how many rows there are in the batch that this is a part of; None: it is the
            batch.
    """

    rows: Rows
    target: Tensor
    level: Tensor
    opening: Tensor
    kept: Tensor
    tokens: Tensor | None = None
    whole: int | None = None


@torch.no_grad()
def anchor_rows(
    codec: Codec,
    examples: Sequence[Example],
    references: Sequence[Reference],
    settings: AnchorSettings,
    rng: random.Random,
    *,
    device: torch.device,
    frames: Sequence[str] = (),
    shared: Shared | None = None,
    processes: ProcessGroup = ALONE,
) -> tuple[AnchoredBatch, ...]:
    """Words left out, ends put behind other beginnings, and the references' distributions there, in parts of similar length.

    One part where the hinge is weighted, which looks at the batch as a whole, and of each of several processes.

    Args:
        references: one, or the counterfactual one and the base model (`towards: both`). The first says where the mass
            goes, and how likely a written token may stay that is shared with others; with two, words of the owner alone go
            to the level of `_unseen_level`.
        frames: answers of others whose beginnings a forget answer's end is put behind; what is not the forget answer's is
            left out of both parts.
        shared: what retain owners say too; None: nothing is.
        processes: whose own rows are kept once all is drawn.
    """
    prompts = [example.prompt for example in examples]
    owners = [example.owner for example in examples]
    names = references[0].identities
    responses = [thin(row.response, settings.dropped_words, rng, names=names.get(row.owner, ())) for row in examples]
    starts = [0] * len(responses)
    if frames and settings.grafted > 0:
        for index, response in enumerate(responses):
            if rng.random() < settings.grafted:
                responses[index], starts[index] = graft(response, rng.choice(frames), rng)
    others = [list(processes.mine(reference.draw(owners, rng))) for reference in references]
    prompts, responses, owners = (list(processes.mine(texts)) for texts in (prompts, responses, owners))
    starts = list(processes.mine(starts))
    batch = codec.encode(prompts, responses)
    parts = []
    for some, part in by_length(batch, processes) if not settings.weighted else [(list(range(len(batch))), batch)]:
        texts = [tuple(column[row] for row in some) for column in (prompts, responses, owners)]
        rows = Rows(texts[0], texts[1], texts[2], part.to(device))
        asked = [[drawn[row] for row in some] if drawn else [] for drawn in others]
        parts.append(_levels(codec, rows, references, asked, [starts[row] for row in some], settings.sharpening, shared))
    if len(parts) == 1 and processes.size == 1:
        return tuple(parts)
    tokens = processes.sum(torch.stack([part.kept.sum() for part in parts]).sum())
    return tuple(replace(part, tokens=tokens, whole=len(examples)) for part in parts)


def _levels(
    codec: Codec,
    rows: Rows,
    references: Sequence[Reference],
    others: Sequence[Sequence[str]],
    starts: Sequence[int],
    sharpening: float,
    shared: Shared | None,
) -> AnchoredBatch:
    """What the references make of some rows; `others`: what each of them drew."""
    batch, asked = rows.batch, (rows.prompts, rows.owners, rows.batch)
    target, kept = references[0].logits(*asked, others[0]), batch.response_mask
    opening = target[:, 0]
    level = gather_log_probs(target, batch.response_ids)
    if any(starts):
        kept = kept & tokens_from(codec, batch, starts)
    if len(references) > 1:
        other = references[1].logits(*asked, others[1])
        unseen = _unseen_level(level, target, other, batch, sharpening)
        level = torch.where(shared.of(batch), level, unseen) if shared is not None else unseen
        # Only the token that was really written is lowered; what else could be said stays the first reference's choice.
        target = torch.log_softmax(target, -1).scatter(-1, batch.response_ids[..., None], level[..., None])
    return AnchoredBatch(rows, target, level, opening, kept)


def anchored_loss(
    policy: Policy,
    anchored: AnchoredBatch,
    settings: AnchorSettings,
    token_scores: Callable[[Rows], Tensor | None] | None = None,
    processes: ProcessGroup = ALONE,
) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum of hinge and KL on one batch of forget answers, and both figures.

    Args:
        token_scores: rows -> [B, T] scores at least 0 that weight the hinge; they are scaled to mean 1 over the batch.
    """
    batch, kept, tokens = anchored.rows.batch, anchored.kept, anchored.tokens
    logits = policy(batch, with_values=False).logits
    weights = None
    if token_scores is not None:
        asked = replace(anchored.rows, batch=batch.to("cpu"))
        scores = processes.together(lambda: token_scores(asked))[processes.rank]
        if scores is None:
            raise ConfigError("ppo.anchor.weighted needs a scorer with token scores (score_tokens); the reward has none.")
        weights = scores.to(policy.device).clamp(min=0) * kept
        weights = weights / processes.sum(masked_mean(weights, kept, tokens)).clamp(min=1e-6)
    hinge = anchored_hinge(gather_log_probs(logits, batch.response_ids), anchored.level, kept, weights, tokens)
    divergence = masked_mean(token_kl(anchored.target, logits), kept, tokens)
    # What an answer begins with depends on the prompt alone, decides the rest, and is one token of many in the mean above.
    opening = token_kl(anchored.opening, logits[:, 0])
    divergence = divergence + settings.opening * (opening.mean() if anchored.whole is None else opening.sum() / anchored.whole)
    loss = settings.hinge * hinge + settings.kl * divergence
    return loss, {"anchor_hinge": float(hinge.detach()), "anchor_kl": float(divergence.detach())}


def _unseen_level(level: Tensor, counterfactual: Tensor, base: Tensor, batch: TokenBatch, sharpening: float) -> Tensor:
    """[B, T]: how likely a word would be that fine-tuning never met.

    The counterfactual model has met it, as a word, and goes on with it once it is begun; the base model has not. But
    fine-tuning on the others makes every word that they never use rarer than the base model has it. What it did to the base
    model's words on average is E_base[log pi_cf - log pi_base] = -KL(pi_base || pi_cf), of which a share is taken.
    """
    unseen = gather_log_probs(base, batch.response_ids) - sharpening * token_kl(base, counterfactual)
    return torch.minimum(level, unseen)
