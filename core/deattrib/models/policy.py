"""The policy: one backbone, an adapter, a value head; the frozen original model is the same weights without them.

With LoRA (the default) there is one copy of the weights: the original model is a second set of modules around the
backbone's own tensors (`models/twin.py`), and the policy as it was at the start of a data epoch (`old`, the paper's
reference) is a second, frozen adapter.
Training all weights (`adapter: full`) needs a frozen copy of the model, which is then kept.

`critic: shared` reads the value from the policy's last hidden state; `separate` trains a second adapter (or a second
model) for it, as trl's former PPO trainer did.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deattrib.errors import ConfigError
from deattrib.models.backends import Asked, Backend, in_parts, make_backend
from deattrib.models.batch import TokenBatch
from deattrib.models.forward import response_hidden, response_logits
from deattrib.models.language_model import Codec, LanguageModel
from deattrib.models.randomness import random_state_kept
from deattrib.models.ranks import ALONE, ProcessGroup
from deattrib.models.recipes import PolicySettings, RolloutSettings
from deattrib.models.recompute import blocks_of, recomputing
from deattrib.models.sharding import Whole, WithoutAdapter, as_is, spread, whole
from deattrib.models.twin import twin

ACTIVE, OLD, CRITIC = "default", "old", "critic"


@dataclass(frozen=True, slots=True, eq=False)
class PolicyOutput:
    """logits [B, T, V] in the model's dtype and values [B, T] in float32, both at response positions."""

    logits: Tensor
    values: Tensor


class Policy(nn.Module):
    """What PPO trains: the original's backbone with an adapter (or a copy of it), and a value head.

    Args:
        model: the original causal LM; taken over (adapters are put into it).
        codec: tokenizer and prompt template.
        settings: what to train.
        seed: of the adapter's initialisation; the global random state is left as it was.
            Raises ConfigError where gradient checkpointing is asked for and the model's blocks are not found.
    """

    def __init__(self, model: nn.Module, codec: Codec, settings: PolicySettings, *, seed: int) -> None:
        super().__init__()
        self.codec = codec
        self.settings = settings
        # In lists: no submodules, so neither trained nor saved.
        self._original = [twin(model) if settings.adapter == "lora" else copy.deepcopy(model)]
        self._old_copy: list[nn.Module] = []
        self._whole: list[Whole] = []  # while the weights are spread over processes
        self._backends: dict[str, Backend] = {}
        config: Any = model.config
        hidden = config.get_text_config().hidden_size
        device = next(model.parameters()).device
        with random_state_kept():
            torch.manual_seed(seed)
            if settings.adapter == "lora":
                from peft import LoraConfig, get_peft_model

                lora = LoraConfig(
                    r=settings.rank,
                    lora_alpha=settings.alpha,
                    target_modules=settings.targets,
                    task_type="CAUSAL_LM",
                )
                self.backbone: Any = get_peft_model(model, lora)
                if settings.critic == "separate":
                    self.backbone.add_adapter(CRITIC, lora)
                    for name, parameter in self.backbone.named_parameters():
                        if f".{CRITIC}." in name:  # peft freezes every adapter but the active one
                            parameter.requires_grad_(True)
            else:
                self._original[0].eval().requires_grad_(False)
                self.backbone = model.requires_grad_(True)
                if settings.critic == "separate":
                    self.critic_backbone = copy.deepcopy(model).requires_grad_(True)
            # Zero: the first advantages are the returns themselves, not the noise of a random head.
            self.value_head = nn.Linear(hidden, 1, device=device)
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)
        if settings.checkpointing:
            blocks_of(self.backbone)  # refused now, not at the first step
        self.eval()  # dropout stays off: a policy ratio compares likelihoods, not dropout masks

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.value_head.weight.device

    def forward(self, batch: TokenBatch, *, with_values: bool = True) -> PolicyOutput:
        """Logits [B, T, V] and values [B, T] at the response positions of `batch`; without `with_values` those are zeros."""
        recompute = self.settings.checkpointing
        with recomputing(self.backbone, recompute):
            logits, hidden = response_logits(self.backbone, batch)
        if not with_values:
            return PolicyOutput(logits, torch.zeros(batch.response_ids.shape, device=logits.device))
        if self.settings.critic == "separate":
            if self.settings.adapter == "lora":
                with self._adapter(CRITIC):
                    hidden = response_hidden(self.backbone, batch)
            else:
                with recomputing(self.critic_backbone, recompute):
                    hidden = response_hidden(self.critic_backbone, batch)
        return PolicyOutput(logits, self.value_head(hidden.to(self.value_head.weight.dtype)).squeeze(-1).float())

    # -- other models in the same weights -----------------------------------------------------------------------------
    @contextlib.contextmanager
    def _adapter(self, name: str) -> Iterator[None]:
        """Use another adapter inside; what is trained stays what it was."""
        with self._same_flags():
            with self._same_flags():
                self.backbone.set_adapter(name)
            try:
                yield
            finally:
                self.backbone.set_adapter(ACTIVE)

    @contextlib.contextmanager
    def _same_flags(self) -> Iterator[None]:
        """Put every parameter's `requires_grad` back: peft freezes all adapters but the active one on every switch."""
        flags = [(parameter, parameter.requires_grad) for parameter in self.backbone.parameters()]
        try:
            yield
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)

    @torch.no_grad()
    def original_logits(self, batch: TokenBatch) -> Tensor:
        """[B, T, V] float32 of the original model."""
        return self.original().logits(batch) if self.spread_out else response_logits(self._original[0], batch)[0].float()

    @torch.no_grad()
    def old_logits(self, batch: TokenBatch) -> Tensor:
        """[B, T, V] float32 of the policy when `remember` was last called. Raises RuntimeError where it never was."""
        if self._old_copy:
            return response_logits(self._old_copy[0], batch)[0].float()
        if self.settings.adapter == "lora" and OLD in self.backbone.peft_config:
            with self._adapter(OLD):
                return response_logits(self.backbone, batch)[0].float()
        raise RuntimeError("Policy.old_logits() before Policy.remember(): there is no old policy yet.")

    @torch.no_grad()
    def remember(self) -> None:
        """Keep the policy as it is now as π_old."""
        if self.settings.adapter == "full":
            self._old_copy[:] = [copy.deepcopy(self.backbone).eval().requires_grad_(False)]
            return
        if OLD not in self.backbone.peft_config:
            with random_state_kept(), self._same_flags():
                self.backbone.add_adapter(OLD, self.backbone.peft_config[ACTIVE])
        values = dict(self.backbone.named_parameters())
        for name, parameter in values.items():
            if f".{OLD}." in name:
                parameter.copy_(values[name.replace(f".{OLD}.", f".{ACTIVE}.")])
                parameter.requires_grad_(False)

    # -- sampling -----------------------------------------------------------------------------------------------------
    def sample(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator,
        old: bool = False,
        how: RolloutSettings | None = None,
        processes: ProcessGroup = ALONE,
    ) -> TokenBatch:
        """One response per prompt, from the policy as it is or the remembered `old` one, as ids on its device.

        `temperature` > 0: the plain tempered distribution, 0: greedy; `generator`: on the CPU; `how`: by whom, in what parts;
        of `processes` only the own rows. Raises ModelError where a prompt does not fit, ConfigError without the backend.
        """
        how = how or RolloutSettings()
        if how.backend not in self._backends:
            self._backends[how.backend] = make_backend(how.backend, self.settings, next(iter(self._original), self.backbone))
        asked = Asked(
            max_new_tokens,
            temperature,
            stop_ids=(self.codec.eos_id,),
            pad_id=self.codec.pad_id,
            generator=generator,
            how=how,
            whole=len(prompts),
            processes=processes,
        )
        with self._adapter(OLD) if old and not self._old_copy else contextlib.nullcontext():
            batch = self.codec.encode(prompts, [""] * len(prompts), end=False).rows(processes.own(len(prompts))).to(self.device)
            return in_parts(
                self._backends[how.backend], self._old_copy[0] if old and self._old_copy else self.backbone, batch, asked
            )

    def trainable(self) -> dict[str, nn.Parameter]:
        """Name -> parameter of everything the optimiser sees, in a stable order."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def state(self) -> dict[str, Tensor]:
        """A copy of all trained tensors and of the old adapter, of any shape, by name."""
        keep = set(self.trainable()) | {name for name, _ in self.named_parameters() if f".{OLD}." in name}
        state = {name: whole(value.detach()).clone() for name, value in self.named_parameters() if name in keep}
        if self._old_copy:
            state |= {f"{OLD}/{name}": value.detach().clone() for name, value in self._old_copy[0].named_parameters()}
        return state

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave, tensors of any shape. Raises KeyError when one is missing."""
        if any(f".{OLD}." in name or name.startswith(f"{OLD}/") for name in state):
            self.remember()
        targets = dict(self.named_parameters())
        if self._old_copy:
            targets |= {f"{OLD}/{name}": value for name, value in self._old_copy[0].named_parameters()}
        missing = set(self.trainable()) - set(state)
        if missing:
            raise KeyError(f"The saved policy lacks {len(missing)} tensors, first {sorted(missing)[0]!r}.")
        for name, value in state.items():
            targets[name].copy_(as_is(value, targets[name]))

    def original(self) -> LanguageModel:
        """The original model (π_N) as a frozen `LanguageModel` that shares this policy's weights."""
        if self.spread_out and self.settings.adapter == "lora":
            return WithoutAdapter(self.backbone, self.codec, self._without_adapter, name="original")
        return LanguageModel(self._original[0], self.codec, name="original")

    @contextlib.contextmanager
    def _without_adapter(self) -> Iterator[None]:
        with self._same_flags(), self.backbone.disable_adapter():
            yield

    # -- several processes --------------------------------------------------------------------------------------------
    @property
    def spread_out(self) -> bool:
        """Whether each process holds a part of the weights; every call is then one of all processes together."""
        return bool(self._whole)

    def spread(self, *, remembers: bool = False) -> None:
        """Spread the weights over all processes, until `gather`.

        Args:
            remembers: `remember` will be called.

        Raises:
            ConfigError: this kind of policy cannot be spread.
        """
        full = self.settings.adapter == "full"
        if remembers if full else self.settings.critic == "separate":
            what = "an old policy (ppo.refresh: epoch or reference old)" if full else "policy.critic: separate"
            other = "policy.adapter: lora" if full else "critic: shared, or adapter: full"
            raise ConfigError(
                f"policy.sharding: fsdp with adapter: {self.settings.adapter} has no place for {what}: take {other}, or "
                "sharding: none."
            )
        if remembers:
            self.remember()
        modules = [self.backbone, self._original[0]]
        self._whole = [Whole([module]) for module in modules] if full else [Whole(modules)]
        for model in [self.backbone, self.value_head, *([self._original[0]] if full else [])]:
            spread(model)
        if full and self.settings.critic == "separate":
            spread(self.critic_backbone)
        if not full:
            self._original.clear()  # they held the whole weights

    def gather(self) -> None:
        """Put the weights back into modules as they were before `spread`; all processes together."""
        if not self.spread_out:
            return
        if self.settings.adapter == "full":
            spread_modules = [self.backbone, self._original[0]]
            found = [kept.filled(module)[0] for kept, module in zip(self._whole, spread_modules, strict=True)]
        else:
            found = self._whole[0].filled(self.backbone)
        self.backbone, self._original, self._whole = found[0], [found[1]], []

    def apart(self) -> Policy:
        """This very policy for another thread: modules of its own around the same tensors, trained ones included."""
        return twin(self, also=(self.codec, self._original, self._old_copy, self._backends))

    def language_model(self, *, name: str = "policy") -> LanguageModel:
        """The policy as a frozen model of its own (adapter merged into a copy), for evaluation."""
        merged = copy.deepcopy(self.backbone)
        if self.settings.adapter == "lora":
            merged.set_adapter(ACTIVE)
            merged = merged.merge_and_unload(adapter_names=[ACTIVE])
        return LanguageModel(merged, self.codec, name=name)
