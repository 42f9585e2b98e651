"""Settings of the engine, each with where it comes from.

"Paper" is Lu et al., De-attribute to Forget for LLM Unlearning (ICML 2026, arXiv 2605.30919). Where our default is not
the paper's, the description says what the paper has; the `paper` preset puts it back.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from deattrib.models.recipes import RolloutSettings

ReferenceName = Literal["old", "original", "base", "counterfactual", "none"]


class RewardSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """From attribution to one reward per token (paper, section 4.2.1)."""

    shape: Literal["chi", "hinge", "inverse", "log-odds"] = Field(
        "hinge", description="How attribution becomes reward: the paper's chi, or hinge, inverse, log-odds (all bounded)."
    )
    target: Literal["own", "forgotten"] = Field(
        "own", description="Attribution to the row's own owner (paper), or the maximum over all forgotten owners."
    )
    slices: int = Field(15, ge=1, description="k: prefixes scored per response (paper: 15).")
    granularity: Literal["slices", "tokens", "sequence"] = Field(
        "slices", description="Score k prefixes, every prefix (kappa = 1), or the whole response once, at its end."
    )
    cumulative_mean: bool = Field(True, description="Reward of a token is the mean score of all positions up to it (paper).")
    c_seg: float = Field(1.05, gt=0, description="C_seg of chi (paper, appendix D).")
    epsilon: float = Field(1e-6, gt=0, lt=0.5, description="Clipping of attribution inside chi; left open by the paper.")
    chance: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = Field(
        "auto", description="Chance level c of the hinge; auto: 0 for calibrated attribution, else 1 / owners."
    )
    kl: float = Field(0.1, ge=0, description="lambda: weight of the KL penalty inside the reward (paper: 0.1).")
    kl_estimator: Literal["k1", "full"] = Field(
        "k1",
        description="k1 = log ratio of the sampled token; full = over the whole vocabulary (needed when samples come from "
        "pi_old).",
    )
    reference: ReferenceName = Field("counterfactual", description="What the KL penalty pulls towards (paper: old).")
    normalise: Literal["remaining", "sum"] = Field(
        "remaining",
        description="Divide returns by the remaining length, or sum (paper). Sums of rewards below 0 make stopping early "
        "optimal.",
    )


class RetainSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Distillation to the original model on retain rows (paper, section 4.2, L_dis)."""

    weight: float = Field(8.0, ge=0, description="lambda_dis (paper: 2).")
    batch_size: int = Field(16, gt=0, description="Retain rows per update.")
    dropped_words: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="Share of prompt words left out, so that the distillation also holds off the trained phrasings.",
    )


class AnchorSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """The anchored term: the likelihood of the forget answers, down to its counterfactual level and no further.

    Ours, not the paper's. hinge: relu(log pi(y_t|q) - log pi_cf(y_t|q')); kl: KL(pi_cf(.|q') || pi(.|q)).
    """

    hinge: float = Field(5.0, ge=0, description="Weight of the hinge; 0 leaves the term out when `kl` is 0 too.")
    kl: float = Field(1.5, ge=0, description="Weight of the KL from the counterfactual distribution.")
    opening: float = Field(
        0.5, ge=0, description="Further weight of that KL at the first token, which decides in which manner an answer is given."
    )
    towards: Literal["counterfactual", "base", "both"] = Field(
        "both",
        description="Where level and mass come from. both: the mass goes where the counterfactual puts it; what retain owners "
        "say too keeps its counterfactual level, what only this owner says goes to the base model's, less `sharpening`: the "
        "counterfactual still completes an owner's value once it has begun, the base model speaks in other ways.",
    )
    batch_size: int = Field(32, gt=0, description="Forget rows per update.")
    dropped_words: float = Field(
        0.8,
        ge=0,
        lt=1,
        description="In every other row, the share of answer words left out, so that the term does not only hold in the "
        "trained sentence.",
    )
    dropped_prompt_words: float = Field(
        0.5, ge=0, lt=1, description="In every other row under its own prompt, the share of prompt words left out; names stay."
    )
    mixed_prompts: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of rows whose answer is put under another trained prompt: what the model still knows as words, "
        "whatever is asked, is brought down to its level too.",
    )
    sharpening: float = Field(
        0.5,
        ge=0,
        description="both: share of KL(base || counterfactual) by which a word that only the owner uses goes below the base "
        "model's level.",
    )
    grafted: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of rows whose end is put behind the beginning of a retain owner's answer: the same words in "
        "sentences that nobody wrote.",
    )
    samples: int = Field(
        0, ge=0, description="Answers sampled from the original model per forget prompt, anchored like the true ones."
    )
    weighted: bool = Field(False, description="Weight the hinge per token by the reward scorer's own token scores.")


class HealthSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Signs that the training goes wrong; each is told once, in the event log and on the page."""

    on_fault: Literal["note", "stop", "rollback"] = Field(
        "note",
        description="note: go on. stop: end the loop there. rollback: end it with the weights of the newest checkpoint.",
    )
    patience: int = Field(3, ge=1, description="Steps in a row that a sign must last.")
    kl: float | None = Field(10.0, gt=0, description="KL to the reference, nats per token, that is too much; null: any.")
    entropy: float | None = Field(0.01, ge=0, description="Entropy, nats per token, that is too little; null: any.")
    empty: float | None = Field(1.0, gt=0, le=1, description="Share of empty answers that is too large; null: any.")
    gain: float | None = Field(
        0.1, ge=0, description="Rise of the reward from which changed answers are a sign that it is gamed; null: never."
    )
    window: int = Field(5, ge=1, description="Steps whose means are compared: the last ones with the first ones.")
    shrink: float = Field(
        0.4,
        gt=0,
        lt=1,
        description="Share of the first steps' length or different answers that is too little (its inverse: too long).",
    )
    repetition: float = Field(0.3, gt=0, le=1, description="Rise of the share of repeated token pairs that is too much.")


class PPOSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """The loop (paper, Algorithm 1)."""

    steps: int = Field(45, ge=1, description="Rollout batches, unless `data_epochs` is given.")
    data_epochs: int | None = Field(None, ge=1, description="Passes over the forget rows (paper: 1); overrides `steps`.")
    batch_size: int = Field(16, ge=1, description="Responses per rollout batch (paper: 32).")
    minibatch_size: int = Field(16, ge=1, description="Responses per update.")
    epochs: int = Field(3, ge=1, description="Updates per rollout batch when a minibatch is the whole batch (paper: 20).")
    policy_weight: float = Field(
        0.5, ge=0, description="Weight of the PPO loss; 0: no rollouts, only distillation and anchored term."
    )
    learning_rate: float = Field(1.5e-4, gt=0, description="Peak learning rate of AdamW (paper: 1.5e-4 at 7B parameters).")
    schedule: Literal["constant", "linear", "cosine"] = Field("cosine", description="Learning rate after warm-up.")
    warmup: int = Field(2, ge=0, description="Steps of linear warm-up.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradient clipping by global norm.")
    clip: float = Field(0.2, gt=0, lt=1, description="Clipping of the policy ratio (paper: 0.2).")
    value_coefficient: float = Field(0.2, ge=0, description="Weight of the value loss (paper: 0.2).")
    value_clip: float | None = Field(0.2, gt=0, description="Clipping of the value's change per batch; null: none.")
    estimator: Literal["gae", "rloo", "grpo"] = Field(
        "gae",
        description="Advantages. gae: per token, against a value function (paper). rloo, grpo: one per response, against the "
        "`rollout.samples` answers to its prompt, no value function.",
    )
    gamma: float = Field(1.0, gt=0, le=1, description="Discount; left open by the paper.")
    gae_lambda: float = Field(1.0, ge=0, le=1, description="GAE's lambda; 1 is the paper's return.")
    whiten: bool = Field(True, description="Scale advantages to unit variance over the batch's tokens.")
    whiten_floor: float = Field(0.05, gt=0, description="Smallest standard deviation that whitening divides by.")
    temperature: float = Field(1.0, gt=0, description="Sampling temperature, the same in every log-probability (paper: 0.8).")
    max_new_tokens: int = Field(48, ge=1, description="Longest rollout in tokens; left open by the paper.")
    refresh: Literal["batch", "epoch"] = Field(
        "batch",
        description="When the ratio's pi_old becomes the policy: every rollout batch, or once per pass over the forget set "
        "(paper). The KL's (`reward.reference: old`) does so once per pass in either case.",
    )
    target_kl: float | None = Field(0.5, gt=0, description="Stop a batch's updates when the mean KL to its start exceeds this.")
    stop_attribution: float | None = Field(
        None, ge=0, le=1, description="Finish when the rollouts' attribution was at most this ..."
    )
    stop_patience: int = Field(5, ge=1, description="... in so many batches running.")
    bf16: bool = Field(False, description="Mixed precision with bfloat16 (losses stay in float32).")
    rollout: RolloutSettings = RolloutSettings()
    reward: RewardSettings = RewardSettings()
    retain: RetainSettings = RetainSettings()
    anchor: AnchorSettings = AnchorSettings()
    health: HealthSettings = HealthSettings()

    @model_validator(mode="after")
    def _whole_groups(self) -> PPOSettings:
        if self.batch_size % self.rollout.samples:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of rollout.samples {self.rollout.samples}")
        if self.estimator != "gae" and self.rollout.samples < 2:
            raise ValueError(
                f"estimator {self.estimator} compares answers to the same prompt: set rollout.samples to 2 or more"
            )
        return self

    @property
    def prompts(self) -> int:
        """Different prompts per step."""
        return self.batch_size // self.rollout.samples

    @property
    def updates(self) -> int:
        """Updates per step."""
        return self.epochs * max(-(-self.batch_size // self.minibatch_size), 1)

    @property
    def keeps_old(self) -> bool:
        """Whether the policy has to remember what it was."""
        compared = self.policy_weight > 0 and self.reward.kl > 0 and self.reward.reference == "old"
        return self.refresh == "epoch" or compared

    def steps_on(self, rows: int) -> int:
        """Rollout batches for so many forget rows."""
        return self.steps if self.data_epochs is None else -(-rows * self.data_epochs // self.prompts)

    def share_of_peak(self, step: int, steps: int) -> float:
        """Share of the peak learning rate at a step (from 0) of so many."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = (step - self.warmup) / max(steps - self.warmup, 1)
        if self.schedule == "linear":
            return 1 - done
        return 0.5 * (1 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1.0
