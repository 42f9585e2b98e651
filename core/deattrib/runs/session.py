"""From config, corpus and models to the objects of a run: attributor, referee, policy, unlearner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deattrib.attribution.attributor import Attributor, ScorerSpec
from deattrib.attribution.context import make_context
from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.retraining import Retrainer
from deattrib.corpus.types import Corpus
from deattrib.errors import CalibrationError, ConfigError
from deattrib.methods.choose import choose_method
from deattrib.models.language_model import LanguageModel
from deattrib.models.policy import Policy
from deattrib.models.ranks import ALONE, ProcessGroup
from deattrib.models.twin import twin
from deattrib.ppo.settings import PPOSettings
from deattrib.ppo.unlearner import Unlearner
from deattrib.runs.config import RunConfig

REFEREE_SEED = 7919  # added to the run's seed: the referee shares no random number with the reward


class Session:
    """The live half of a run. The original model is held once: first alone, then inside the policy.

    Args:
        config: the run's settings.
        corpus, original, base: data and models; `original` is taken over by the policy.
        registry: where scorers are looked up.
        cache: folder for scorers' artefacts, or None.
        retrainer: for scorers that retrain the original, or None.
        processes: the processes that carry out the run.
    """

    def __init__(
        self,
        config: RunConfig,
        corpus: Corpus,
        original: LanguageModel,
        base: LanguageModel | None,
        *,
        registry: PluginRegistry,
        cache: Path | None = None,
        retrainer: Retrainer | None = None,
        processes: ProcessGroup = ALONE,
    ) -> None:
        self.processes = processes
        self.config, self.corpus, self.base, self.registry = config, corpus, base, registry
        self.method = choose_method(config.method, registry)
        asked = self.method.cls.settle(config.ppo, self.method.params)
        self.settings = settle_references(asked, corpus, based=base is not None)
        self.without_names = _without_names(asked, self.settings, corpus)
        self._original = original
        self._policy: Policy | None = None
        self.cache = cache
        self.retrainer = retrainer

    @property
    def original(self) -> LanguageModel:
        return self._original

    def _context(self, *, half: int | None, seed: int) -> Any:
        context = make_context(
            self.corpus,
            self._original,
            base=self.base,
            policy=lambda: self._policy,
            seed=seed,
            cache=self.cache,
            half=half,
            retrainer=self.retrainer,
            rank=self.processes.rank,
        )
        # The original moves into the policy once that exists; scorers ask for it anew each time.
        object.__setattr__(context, "load_original", lambda: self._original)
        return context

    def fit_reward(self, scorers: Any = None) -> Attributor:
        """The reward's scorers (the config's, unless classes or objects are given), fitted and calibrated."""
        seed = self.config.seed
        attributor = Attributor(
            scorers if scorers is not None else self.config.reward,
            registry=self.registry,
            calibration=self.config.calibration,
            target=self.settings.reward.target,
            guard=self.config.guard,
        )
        proxy = self._context(half=0, seed=seed) if self.config.referee.halves else None
        return attributor.fit(self.corpus, context=self._context(half=None, seed=seed), proxy_context=proxy)

    def fit_referee(self) -> Attributor:
        """The scorer that judges: always calibrated, another backbone, seed and half of the rows."""
        try:
            return self.fit_judge(self.config.referee.scorer or default_referee(self.config.reward))
        except CalibrationError as error:
            raise CalibrationError(f"The referee (choose another with referee.scorer): {error}") from error

    def fit_judge(self, spec: ScorerSpec) -> Attributor:
        """Any scorer, fitted and calibrated as the referee is: its seed, and its half of the rows for proxies."""
        judge = Attributor(spec, registry=self.registry, calibration=self.config.referee.calibration, guard=self.config.guard)
        half = 1 if self.config.referee.halves else None
        seed = self.config.seed + REFEREE_SEED
        context = self._context(half=None, seed=seed)
        return judge.fit(self.corpus, context=context, proxy_context=self._context(half=half, seed=seed))

    def make_unlearner(self, reward: Attributor, *, ahead: bool = False) -> Unlearner:
        """Policy and loop. From here on the original model lives inside the policy.

        Args:
            ahead: a processor is free to prepare what does not depend on the policy.
        """
        lora = self.config.policy.adapter == "lora"  # then nothing writes into the weights, and one copy serves both
        model = twin(self._original.model, views=True) if lora else self._original.clone()
        policy = Policy(model, self._original.codec, self.config.policy, seed=self.config.seed)
        if self.processes.size > 1 and self.config.policy.sharding == "fsdp":
            policy.spread(remembers=self.settings.keeps_old)
        self._policy = policy
        self._original = policy.original()
        reward.watch(policy)
        return self.method.cls(
            policy,
            self.corpus,
            reward,
            self.settings,
            seed=self.config.seed,
            base=self.base,
            token_scores=reward.token_scores,
            params=self.method.params,
            ahead=ahead,
            processes=self.processes,
        )

    def gather(self) -> None:
        """Policy and original whole again after the loop, where they were spread over the processes."""
        if self._policy is not None and self._policy.spread_out:
            self._policy.gather()
            self._original = self._policy.original()


def _without_names(asked: PPOSettings, settled: PPOSettings, corpus: Corpus) -> str:
    """What became of the settings where some owners have names and others not, for a warning; "" where nothing did."""
    replaced = [
        name
        for name, before, after in (
            ("ppo.reward.reference", asked.reward.reference, settled.reward.reference),
            ("ppo.anchor.towards", asked.anchor.towards, settled.anchor.towards),
        )
        if before != after == "base"
    ]
    unnamed = [owner for owner in corpus.owners if not corpus.identities.get(owner)]
    if not replaced or len(unnamed) == len(corpus.owners):
        return ""
    return (
        f"{len(unnamed)} of {len(corpus.owners)} owners have no name to swap (first: {unnamed[0]!r}), so all are compared with "
        f"the base model instead: {' and '.join(replaced)} became base. Give the missing `identity`, retained owners' too."
    )


def default_referee(reward: Any) -> dict[str, Any]:
    """A classifier of another backbone than any in the reward; where both are in it, the causal one on other rows."""
    specs = reward if isinstance(reward, list) else [reward]
    used = {classifier_backbone(spec) for spec in specs}
    if "causal" in used and "ngram" not in used:
        return {"name": "classifier", "backbone": "ngram"}
    return {"name": "classifier", "backbone": "causal", "epochs": 5, "learning_rate": 2e-3}


def classifier_backbone(spec: str | Mapping[str, Any]) -> str | None:
    """The backbone of a classifier, or of the one that a control wraps; None for other scorers."""
    spec = {"name": spec} if isinstance(spec, str) else spec
    if spec["name"] == "shuffled-owner":
        return classifier_backbone(spec.get("scorer", "classifier"))
    return str(spec.get("backbone", "ngram")) if spec["name"] == "classifier" else None


def settle_references(settings: PPOSettings, corpus: Corpus, *, based: bool) -> PPOSettings:
    """Whom the policy is compared with, `based` if there is a base model.

    That is the default's counterfactual reference, where the corpus has names; else the base model; else a refusal.

    Raises:
        ConfigError: neither names nor a base model are there, and a setting needs one of them.
    """
    needs_reward = settings.policy_weight > 0 and settings.reward.kl > 0 and settings.reward.reference == "counterfactual"
    needs_anchor = (settings.anchor.hinge > 0 or settings.anchor.kl > 0) and settings.anchor.towards != "base"
    if needs_anchor and settings.anchor.towards == "both" and not based and corpus.has_identities:
        anchor = settings.anchor.model_copy(update={"towards": "counterfactual"})
        return settings.model_copy(update={"anchor": anchor})
    if corpus.has_identities or not (needs_reward or needs_anchor):
        return settings
    if not based:
        unnamed = [owner for owner in corpus.owners if not corpus.identities.get(owner)]
        raise ConfigError(
            f"The default compares with the same question about another owner, and {len(unnamed)} of {len(corpus.owners)} "
            f"owners have no name to swap (first: {unnamed[0]!r}); nor is there a base model to compare with instead. Give "
            "`identity` per row (or corpus.identities_path), or model.base, or take preset: ppo, which needs neither."
        )
    reward = settings.reward.model_copy(update={"reference": "base"}) if needs_reward else settings.reward
    anchor = settings.anchor.model_copy(update={"towards": "base"}) if needs_anchor else settings.anchor
    return settings.model_copy(update={"reward": reward, "anchor": anchor})
