"""What the paper leaves open, setting by setting: named before a run, with the value that the run takes.

The paper is Lu et al., De-attribute to Forget for LLM Unlearning (ICML 2026, arXiv 2605.30919); the reasons for our choices
are in docs/presets.md. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deattrib.runs.config import RunConfig


@dataclass(frozen=True, slots=True)
class Open:
    """One thing that the paper does not say, or says in two ways.

    Attributes:
        question: what it is.
        settings: dotted paths of the settings that decide it; empty where the engine does.
        fixed: what the engine does where no setting decides.
    """

    question: str
    settings: tuple[str, ...] = ()
    fixed: str = ""


OPEN: tuple[Open, ...] = (
    Open("discount gamma: in (0, 1), value not given", ("ppo.gamma",)),
    Open("epsilon, the clipping of attribution inside chi", ("ppo.reward.epsilon",)),
    Open("the most new tokens of a rollout", ("ppo.max_new_tokens",)),
    Open("which model the KL penalty is against: pi_old (section 4.2.1) or pi_N (appendix D)", ("ppo.reward.reference",)),
    Open("LoRA of the policy: rank 8, alpha 16 is stated for making the original model", ("policy.rank", "policy.alpha")),
    Open("which modules get an adapter, and whether the critic has its own", ("policy.targets", "policy.critic")),
    Open("GAE and whitening, mentioned in the complexity appendix only", ("ppo.gae_lambda", "ppo.whiten")),
    Open("clipping of the value and of the gradient, early end of a batch's updates",
         ("ppo.value_clip", "ppo.max_grad_norm", "ppo.target_kl")),
    Open("schedule and warm-up of the learning rate", ("ppo.schedule", "ppo.warmup")),
    Open("retain rows per update, new ones for each (the paper: once per rollout batch)", ("ppo.retain.batch_size",)),
    Open("the dropout of 0.05 with which the original and the retrained model are fine-tuned", fixed="none"),
    Open("forget and retain updates alternate (prose) or are summed (Algorithm 1)", fixed="the sum"),
    Open("L_dis is over \"each generated response\", though nothing is generated on retain data",
         fixed="teacher forcing on the retain answers"),
    Open("with kappa = ceil(T/k) the slices are not always k", fixed="their ends are clamped to the length"),
    Open("batches of the classifier go owner by owner (Algorithm 1)", fixed="shuffled over all owners"),
)  # fmt: skip


def open_settings(config: RunConfig) -> list[dict[str, Any]]:
    """Each open point with the values that this run takes: `question`, `taken` (setting -> value, or the engine's way)."""
    plain = config.plain()
    told = []
    for item in OPEN:
        taken = {path: _value(plain, path) for path in item.settings}
        told.append({"question": item.question, "taken": taken or item.fixed})
    return told


def _value(plain: Mapping[str, Any], path: str) -> Any:
    value: Any = plain
    for part in path.split("."):
        value = value.get(part)
    return value
