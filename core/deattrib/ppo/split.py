"""Whether a run can be split over several processes, asked when the loop is made, before its first step."""

from __future__ import annotations

from deattrib.errors import ConfigError
from deattrib.models.ranks import ProcessGroup
from deattrib.ppo.settings import PPOSettings

LOSSES = ("forget_loss", "total_loss", "retain_loss", "distillation", "_terms")


def splits(method: type) -> bool:
    """Whether a method says `splits` of the very loss that it has, not of one that it has inherited and replaced."""
    said = next((index for index, one in enumerate(method.__mro__) if "splits" in vars(one)), 0)
    written = next((index for index, one in enumerate(method.__mro__) if not set(LOSSES).isdisjoint(vars(one))), 0)
    return bool(getattr(method, "splits", False)) and said <= written


def check_split(settings: PPOSettings, processes: ProcessGroup, method: type) -> None:
    """Refuses what several processes cannot do together.

    Args:
        settings: as the method uses them.

    Raises:
        ConfigError: a batch has fewer rows than there are processes (which of them would have none), or the method's loss is
            not written for parts of a batch, or rollouts are not sampled by the policy, all at once.
    """
    if processes.size == 1:
        return
    if not splits(method):
        raise ConfigError(
            f"Method {getattr(method, 'name', method.__name__)!r} runs in one process only: its loss does not say how it is "
            f"split over {processes.size}. Start it without a launcher; where the method is yours, see `splits` in "
            "docs/methods.md."
        )
    rollouts = settings.policy_weight > 0
    if rollouts and (settings.rollout.backend != "hf" or settings.rollout.batch_size is not None):
        raise ConfigError(
            f"ppo.rollout: {processes.size} processes sample their rows together, each step of all at once: set backend to hf "
            "and batch_size to null, or start one process."
        )
    minibatch = min(settings.minibatch_size, settings.batch_size)
    anchored = settings.anchor.hinge > 0 or settings.anchor.kl > 0
    sizes = {
        "ppo.batch_size": settings.batch_size,
        "ppo.minibatch_size": minibatch if rollouts else None,
        "the last of ppo.batch_size in parts of ppo.minibatch_size": settings.batch_size % minibatch or None
        if rollouts
        else None,
        "ppo.retain.batch_size": settings.retain.batch_size,  # a baseline weighs these rows itself
        "ppo.anchor.batch_size": settings.anchor.batch_size if anchored else None,
    }
    for name, size in sizes.items():
        if size is not None and size < processes.size:
            raise ConfigError(
                f"{name}: {size} rows cannot be split over {processes.size} processes, each needs one at least. Make the batch "
                "larger or start fewer processes."
            )
